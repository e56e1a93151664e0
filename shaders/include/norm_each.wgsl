// Parameters of the passes over all elements.
struct Params {
    // Elements in all, and of one channel of one image.
    elements: u32,
    plane: u32,
    channels: u32,
}
