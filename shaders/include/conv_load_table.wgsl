// Loads through a table, for sources with few channels: a step has any mix of channels and taps.
// {{ columns }}

struct TableRow {
    // Element relative to tap (0, 0, 0) in channel 0.
    offset: u32,
    // Bits of the tap along t, h and w; padding rows have a bit that no mask has.
    tap_bits: u32,
}

@group(0) @binding(3) var<storage, read_write> table: array<TableRow>;

struct Source {
    // For each column: the element of tap (0, 0, 0) in channel 0, which may lie outside, and the
    // taps that fall into the source, one bit for each t, h and w.
    base: vec4<u32>,
    mask: vec4<u32>,
}

{{ conv_columns.wgsl }}

fn is_inside(source: Source, row: TableRow) -> vec4<bool> {
    let bits = vec4(row.tap_bits);
    return (source.mask & bits) == bits;
}

fn fetch(source: Source, row: TableRow) -> {{ four }} {
    let at = select(vec4(0u), source.base + vec4(row.offset), is_inside(source, row));
    return {{ four }}({{ x }}, {{ y }}, {{ z }}, {{ w }});
}

fn masked(source: Source, row: TableRow, value: {{ four }}) -> {{ four }} {
    return select({{ four }}(), value, is_inside(source, row));
}
