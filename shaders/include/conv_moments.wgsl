// Statistics of the tile's rows for batch normalisation: the mean of each row, then the sum of
// squared deviations from it. The tiles in workgroup memory can be reused, since the last step
// ended with a barrier.
let tile_columns = f32(min(BN, columns - column0));
{{ sums }}
workgroupBarrier();
if (local < BM) {
    row_means[local] = row_sum(local) / tile_columns;
}
workgroupBarrier();
{{ squares }}
workgroupBarrier();
if (local < BM && row0 + local < rows) {
    let column_tiles = (columns + BN - 1u) / BN;
    let to = 2u * ((row0 + local) * column_tiles + column0 / BN);
    moments[to] = row_means[local];
    moments[to + 1u] = row_sum(local);
}
