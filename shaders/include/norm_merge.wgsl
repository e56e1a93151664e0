// Returns mean and biased variance of a channel, merged from the means and sums of squared
// deviations of its parts, in their order.
fn channel_statistics(channel: u32) -> vec2<f32> {
    var count = 0.0;
    var mean = 0.0;
    var squares = 0.0;
    for (var part = 0u; part < params.parts; part++) {
        let at = 2u * (channel * params.parts + part);
        let more = f32(min(params.part, params.values - part * params.part));
        let share = more / (count + more);
        let delta = parts[at] - mean;
        mean += delta * share;
        squares += parts[at + 1u] + delta * delta * count * share;
        count += more;
    }
    return vec2(mean, squares / count);
}
