// What the backward pass of a normalisation with ReLU, whose result the convolution read, needs of that
// result's gradient: of each row of the tile Σ g and Σ g·(x − mean), where g is the gradient, and 0 where
// the ReLU was closed. That follows from x in the words of norm_apply.wgsl. The tiles in workgroup
// memory are free, since the last step ended with a barrier.
let kept_row = (rows + {{ row }}u - 1u) / {{ row }}u * {{ row }}u;
{{ places }}
{{ rows }}
{{ straight }}
workgroupBarrier();
var straight = 0.0;
if (local < BM) {
    straight = row_sum(local);
}
workgroupBarrier();
{{ along }}
workgroupBarrier();
if (local < BM && row0 + local < rows) {
    let column_tiles = (columns + BN - 1u) / BN;
    let to = 2u * ((row0 + local) * column_tiles + column0 / BN);
    gradient_sums[to] = straight;
    gradient_sums[to + 1u] = row_sum(local);
}
