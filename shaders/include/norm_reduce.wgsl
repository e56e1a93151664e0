// Parameters of the reductions: a channel's elements are cut into chunks, one for each workgroup.
struct Params {
    channels: u32,
    // Elements of one channel in one image, in all images, and of a chunk.
    plane: u32,
    elements: u32,
    chunk: u32,
    // How far a workgroup's width advances: images, and elements within one.
    image_step: u32,
    plane_step: u32,
    // Words between the rows of `kept`, where the mask of the ReLU starts in it, the words that a
    // plane has there, and the binary logarithm of the lanes that wrote them.
    row: u32,
    mask: u32,
    plane_words: u32,
    lane_bits: u32,
}
