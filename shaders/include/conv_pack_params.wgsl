struct Params {
    rows: u32,
    // Rows including padding, and vec4 of rows.
    padded_rows: u32,
    quads: u32,
    channels: u32,
    // Channels including padding.
    depth: u32,
    // Strides of the weights for rows and channels.
    row_stride: u32,
    channel_stride: u32,
    // Channels per block of consecutive terms, and the distance between such blocks in terms.
    block: u32,
    block_step: u32,
    tap_count: u32,
    // For each packed tap: its index in the window, and the term of its first channel.
    taps: array<vec2<u32>>,
}

@group(0) @binding(0) var<storage, read_write> weight: array<f32>;
@group(0) @binding(2) var<storage, read> params: Params;

fn value(row: u32, channel: u32, tap: u32) -> f32 {
    let ok = row < params.rows && channel < params.channels;
    let at = row * params.row_stride + channel * params.channel_stride + tap;
    return select(0.0, weight[select(0u, at, ok)], ok);
}

// Returns the term of a channel of the tap whose first term is `first`.
fn term_of(channel: u32, first: u32) -> u32 {
    return first + channel / params.block * params.block_step + channel % params.block;
}
