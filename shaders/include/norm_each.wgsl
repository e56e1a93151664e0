// The passes over all elements. A workgroup's invocations are divided among planes (a plane is one
// channel of one image), a power of two of lanes to each; an invocation takes up to STEPS elements
// of its plane, as far apart as there are lanes.
struct Params {
    // Planes in all, channels, elements of a plane.
    planes: u32,
    channels: u32,
    plane: u32,
    // Binary logarithm of the lanes of a plane.
    lane_bits: u32,
    // The parts that a channel's sums come in: how many, values of each but the last, values in all.
    parts: u32,
    part: u32,
    values: u32,
    epsilon: f32,
    // Words between the rows of `kept`, and where the mask of the ReLU starts in it.
    row: u32,
    mask: u32,
}

const STEPS: u32 = 8u;

// An invocation's share.
struct Share {
    plane: u32,
    channel: u32,
    // First element of the plane; the invocation's first one and their distance within it.
    start: u32,
    first: u32,
    lanes: u32,
    // The word of the mask for its elements.
    word: u32,
    // Whether it writes what there is one of for each channel.
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
