// Sums for the backward pass of the normalisation with ReLU whose result the convolution reads: Σ g
// and Σ g·(x − mean) for each row of the tile, where g is the gradient of that result, or 0 where
// the ReLU was inactive. Whether it was is recomputed from x as in norm_apply.wgsl. The tiles in
// workgroup memory can be reused, since the last step ended with a barrier.
let kept_row = (rows + {{ row }}u - 1u) / {{ row }}u * {{ row }}u;
{{ positions }}
{{ rows }}
{{ write_g }}
workgroupBarrier();
var sum_g = 0.0;
if (local < BM) {
    sum_g = row_sum(local);
}
workgroupBarrier();
{{ write_gd }}
workgroupBarrier();
if (local < BM && row0 + local < rows) {
    let column_tiles = (columns + BN - 1u) / BN;
    let to = 2u * ((row0 + local) * column_tiles + column0 / BN);
    gradient_sums[to] = sum_g;
    gradient_sums[to + 1u] = row_sum(local);
}
