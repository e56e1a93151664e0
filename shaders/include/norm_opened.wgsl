// Whether the ReLU let an element of a plane through. (norm_each.wgsl says which word it is in:
// eight elements share one.)
fn opened(plane: u32, inner: u32) -> {{ bool }} {
    let lane_bits = params.lane_bits;
    let lanes = 1u << lane_bits;
    let share = inner >> (lane_bits + 3u);
    let step = (inner >> lane_bits) & 7u;
    let at = params.mask + plane * params.plane_words + share * lanes + (inner & (lanes - 1u));
    let bits = kept[at] >> (step * LANES);
    return {{ test }};
}
