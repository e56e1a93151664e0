// Mean and biased variance of a channel: its parts' means and sums of squared deviations merged in
// their order.
fn find(channel: u32) -> vec2<f32> {
    var count = 0.0;
    var mean = 0.0;
    var squares = 0.0;
    for (var part = 0u; part < params.parts; part++) {
        let at = 2u * (channel * params.parts + part);
        let more = f32(min(params.part, params.values - part * params.part));
        let share = more / (count + more);
        let apart = parts[at] - mean;
        mean += apart * share;
        squares += parts[at + 1u] + apart * apart * count * share;
        count += more;
    }
    return vec2(mean, squares / count);
}
