// Whether an element of a plane was above 0 before the ReLU. (norm_each.wgsl says which word its
// bits are in: eight elements share one.)
fn is_positive(plane: u32, inner: u32) -> {{ bool }} {
    let lane_bits = params.lane_bits;
    let lanes = 1u << lane_bits;
    let share = inner >> (lane_bits + 3u);
    let step = (inner >> lane_bits) & 7u;
    let at = params.mask + plane * params.plane_words + share * lanes + (inner & (lanes - 1u));
    let bits = kept[at] >> (step * LANES);
    return {{ test }};
}
