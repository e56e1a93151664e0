struct Params {
    rows: u32,
    // Rows with padding, and vec4 of them.
    padded_rows: u32,
    quads: u32,
    channels: u32,
    // Channels with padding.
    depth: u32,
    // Elements of the weights between rows and between channels.
    row_stride: u32,
    channel_stride: u32,
    // Channels whose terms follow each other, and terms between those of two blocks of them.
    block: u32,
    block_step: u32,
    tap_count: u32,
    // Of each packed tap: its index in the window, and the term of its first channel.
    taps: array<vec2<u32>>,
}

@group(0) @binding(0) var<storage, read_write> weight: array<f32>;
@group(0) @binding(2) var<storage, read> params: Params;

fn value(row: u32, channel: u32, tap: u32) -> f32 {
    let ok = row < params.rows && channel < params.channels;
    let at = row * params.row_stride + channel * params.channel_stride + tap;
    return select(0.0, weight[select(0u, at, ok)], ok);
}

// The term of a channel of the tap whose first one is `first`.
fn term_of(channel: u32, first: u32) -> u32 {
    return first + channel / params.block * params.block_step + channel % params.block;
}
