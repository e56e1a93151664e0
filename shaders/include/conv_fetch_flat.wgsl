// Loads by table, for sources of few channels: a step takes any mix of channels and taps.

struct FlatRow {
    // Its element relative to tap (0, 0, 0) in channel 0.
    offset: u32,
    // The bits of its tap along t, h and w; rows of padding have a bit that no mask has.
    tap_bits: u32,
}

@group(0) @binding(3) var<storage, read_write> table: array<FlatRow>;

fn fetch_one(source: Source, row: u32) -> f32 {
    let entry = table[row];
    let ok = (entry.tap_bits & source.mask) == entry.tap_bits;
    let value = src[select(0u, source.at + entry.offset, ok)];
    return select(0.0, value, ok);
}

// Four rows from `row` on.
fn fetch(source: Source, row: u32) -> vec4<f32> {
    return vec4(
        fetch_one(source, row),
        fetch_one(source, row + 1u),
        fetch_one(source, row + 2u),
        fetch_one(source, row + 3u),
    );
}
