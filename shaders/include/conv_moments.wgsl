// Statistics of the tile's rows for batch normalisation: of each its mean, then its sum of squared
// deviations from it. The tiles in workgroup memory are free, since the last step ended with a
// barrier; an invocation's rows lie there four to a vec4.
let tile_columns = f32(min(BN, columns - column0));
{{ sums }}
workgroupBarrier();
if (local < BM) {
    var sum = 0.0;
    for (var x = 0u; x < TX; x++) {
        sum += {{ scratch }}[(x * ROW_QUADS + {{ quad }}) * TY + {{ owner }}][{{ part }}];
    }
    row_means[local] = sum / tile_columns;
}
workgroupBarrier();
{{ squares }}
workgroupBarrier();
if (local < BM && row0 + local < rows) {
    var sum = 0.0;
    for (var x = 0u; x < TX; x++) {
        sum += {{ scratch }}[(x * ROW_QUADS + {{ quad }}) * TY + {{ owner }}][{{ part }}];
    }
    let column_tiles = (columns + BN - 1u) / BN;
    let to = 2u * ((row0 + local) * column_tiles + column0 / BN);
    moments[to] = row_means[local];
    moments[to + 1u] = sum;
}
