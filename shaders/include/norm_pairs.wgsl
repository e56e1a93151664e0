// Merges count, mean and sum of squared deviations of two sets (Chan et al.); a count may be 0.
fn merge(a: vec3<f32>, b: vec3<f32>) -> vec3<f32> {
    let count = a.x + b.x;
    let share = b.x / max(count, 1.0);
    let delta = b.y - a.y;
    return vec3(count, a.y + delta * share, a.z + b.z + delta * delta * a.x * share);
}
