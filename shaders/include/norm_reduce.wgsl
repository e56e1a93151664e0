// Parameters of the reductions: a channel's elements are divided into chunks, one per workgroup.
struct Params {
    channels: u32,
    // Elements of one channel in one image, elements of one channel in all images, elements per
    // chunk.
    plane: u32,
    elements: u32,
    chunk: u32,
    // Step of THREADS elements of a channel: whole images, and the remaining elements within an
    // image.
    image_step: u32,
    plane_step: u32,
    // Distance in words between the rows of `kept`, offset of the ReLU's mask in it, mask words per
    // plane, and the binary logarithm of the number of lanes that wrote them.
    row: u32,
    mask: u32,
    plane_words: u32,
    lane_bits: u32,
}
