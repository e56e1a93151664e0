fn channel_statistics(channel: u32) -> vec2<f32> {
    return vec2(given_mean[channel], given_variance[channel]);
}
