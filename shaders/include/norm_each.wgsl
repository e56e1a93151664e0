// Passes over all elements. A workgroup's invocations are divided among planes (a plane is one
// channel of one image), with a power of two of lanes per plane; an invocation processes up to
// STEPS elements of its plane, with the number of lanes as stride.
struct Params {
    // Number of planes, number of channels, elements per plane.
    planes: u32,
    channels: u32,
    plane: u32,
    // Binary logarithm of the number of lanes per plane.
    lane_bits: u32,
    // Parts of a channel's sums: their number, values in each but the last, values in all of them.
    parts: u32,
    part: u32,
    values: u32,
    epsilon: f32,
    // Distance in words between the rows of `kept`, and the offset of the ReLU's mask in it.
    row: u32,
    mask: u32,
}

const STEPS: u32 = 8u;

// The elements of one invocation.
struct Share {
    plane: u32,
    channel: u32,
    // First element of the plane; the invocation's first element in the plane, and its stride.
    start: u32,
    first: u32,
    lanes: u32,
    // Index of the mask word for these elements.
    word: u32,
    // Whether this invocation writes the per-channel results.
    leads: bool,
}

fn share_of(group: vec3<u32>, groups: vec3<u32>, local: u32) -> Share {
    var share: Share;
    let block = group.y + group.z * groups.y;
    let lane_bits = params.lane_bits;
    share.lanes = 1u << lane_bits;
    let lane = local & (share.lanes - 1u);
    share.plane = block * (THREADS >> lane_bits) + (local >> lane_bits);
    share.channel = share.plane % params.channels;
    share.start = share.plane * params.plane;
    share.first = group.x * STEPS * share.lanes + lane;
    share.word = params.mask + (share.plane * groups.x + group.x) * share.lanes + lane;
    share.leads = group.x == 0u && lane == 0u && share.plane < params.channels;
    return share;
}
