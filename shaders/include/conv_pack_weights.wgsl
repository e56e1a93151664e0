fn value(row: u32, channel: u32, tap: u32) -> f32 {
    let ok = row < params.rows && channel < params.channels;
    let at = row * params.row_stride + channel * params.channel_stride + tap;
    return select(0.0, weight[select(0u, at, ok)], ok);
}

// Packs all taps of four channels of a row.
fn pack_weights(row: u32, quarter: u32) {
    if (row >= params.padded_rows) {
        return;
    }
    let channel = 4u * quarter;
    for (var tap = 0u; tap < params.tap_count; tap++) {
        let index = params.window[tap];
        packed[(tap * params.depth + quarter) * params.padded_rows + row] = vec4(
            value(row, channel, index),
            value(row, channel + 1u, index),
            value(row, channel + 2u, index),
            value(row, channel + 3u, index),
        );
    }
}
