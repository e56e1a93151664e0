// The augmentation of a batch in one pass: source frames [N, T, H, W, 3] in, normalised clips
// [N, 3, T', H', W'] out, every output value written once and no image in between.
//
// An invocation processes pixels of one frame at a time and a workgroup neighbouring pixels, so
// that both the clip's record and the memory traffic are shared. The arithmetic is that of
// src/cpu/augment/{geometry,noise,host}.rs, where the formulas are explained; a change here needs
// the same change there.
//
// Template: `source_f32` tells whether the source holds f32 in [0, 1], otherwise uint8, four to a
// word; `group` is the number of invocations in a workgroup, `bits` the number of fractional bits
// of a position.

const SOURCE_F32: bool = {{ source_f32 }};
const GROUP: u32 = {{ group }}u;
const BITS: u32 = {{ bits }}u;

const DROPPED: u32 = 0xffffffffu;
const ROTATED: u32 = 1u;
const ON_GRID: u32 = 2u;
const NOISY: u32 = 4u;

struct Params {
    // T, H, W of the source, and of the output.
    size: vec3<u32>,
    clips: u32,
    out_size: vec3<u32>,
    // Number of pixels in an output frame.
    out_pixels: u32,
    mean: vec3<f32>,
    // Number of invocations that share a frame.
    pixel_stride: u32,
    // 1/std.
    scale: vec3<f32>,
    // Number of frames that are computed at the same time.
    frame_stride: u32,
}

// The augmentation of one clip.
struct ClipRecord {
    // Positions in fixed point, (x, y): first and last pixel centre of the crop, edges of the
    // frame.
    low: vec2<i32>,
    high: vec2<i32>,
    start: vec2<i32>,
    end: vec2<i32>,
    // Output pixels per unit of a position.
    inverse: vec2<f32>,
    noise_key: vec2<u32>,
    // First and last + 1 pixel of the cutout, (x, y).
    cutout_low: vec2<u32>,
    cutout_high: vec2<u32>,
    fill: f32,
    brightness: f32,
    contrast: f32,
    contrast_shift: f32,
    noise: f32,
    flags: u32,
}

// The source of one output frame.
struct FrameRecord {
    // Source frame, or DROPPED.
    from_frame: u32,
    // Output frame that is mixed in, and its weight.
    partner: u32,
    mix: f32,
}

// Read-write though only `clips` is written: buffers may share one allocation, which must not be
// bound both ways.
@group(0) @binding(0) var<storage, read_write> source: array<u32>;
@group(0) @binding(1) var<storage, read_write> clips: array<f32>;
@group(0) @binding(2) var<storage, read_write> clip_records: array<ClipRecord>;
// [N, T'].
@group(0) @binding(3) var<storage, read_write> frame_records: array<FrameRecord>;
// [N, W' + H']: the parts of a position that depend on the column, then on the row.
@group(0) @binding(4) var<storage, read_write> positions: array<vec2<i32>>;
@group(0) @binding(5) var<storage, read> params: Params;

// RGB of a source pixel, in [0, 1].
fn pixel(index: u32) -> vec3<f32> {
    let first = index * 3u;
    if (SOURCE_F32) {
        return vec3(
            bitcast<f32>(source[first]),
            bitcast<f32>(source[first + 1u]),
            bitcast<f32>(source[first + 2u]),
        );
    }
    let word = first / 4u;
    let shift = (first % 4u) * 8u;
    var bytes = source[word] >> shift;
    // From byte 2 or 3 on the pixel reaches into the next word, which then exists.
    if (shift > 8u) {
        bytes |= source[word + 1u] << (32u - shift);
    }
    let levels = vec3(bytes & 255u, (bytes >> 8u) & 255u, (bytes >> 16u) & 255u);
    return vec3<f32>(levels) * (1.0 / 255.0);
}

// Output pixel (x, y) of clip n from source frame `from_frame`.
fn sample(clip: ClipRecord, n: u32, from_frame: u32, x: u32, y: u32) -> vec3<f32> {
    let size = params.size;
    let out = params.out_size;
    let first_position = n * (out.z + out.y);
    let position = positions[first_position + x] + positions[first_position + out.z + y];
    let clamped = max(min(max(position, clip.low), clip.high), vec2(0));
    let last = vec2(size.z - 1u, size.y - 1u);
    let first = min(vec2<u32>(clamped) >> vec2(BITS), last);
    let base = (n * size.x + from_frame) * size.y * size.z;
    let upper = base + first.y * size.z;
    if ((clip.flags & ON_GRID) != 0u) {
        return pixel(upper + first.x);
    }
    let second = min(first + 1u, last);
    let lower = base + second.y * size.z;
    let weight = vec2<f32>(vec2<u32>(clamped) & vec2((1u << BITS) - 1u)) / f32(1u << BITS);
    let above = mix(pixel(upper + first.x), pixel(upper + second.x), weight.x);
    let below = mix(pixel(lower + first.x), pixel(lower + second.x), weight.x);
    let value = mix(above, below, weight.y);
    if ((clip.flags & ROTATED) == 0u) {
        return value;
    }
    let from_start = vec2<f32>(position - clip.start) * clip.inverse + 1.0;
    let to_end = vec2<f32>(clip.end - position) * clip.inverse;
    let inside = clamp(min(from_start, to_end), vec2(0.0), vec2(1.0));
    return value * (inside.x * inside.y);
}

fn finalise(word: u32) -> u32 {
    var h = word;
    h ^= h >> 16u;
    h *= 0x85ebca6bu;
    h ^= h >> 13u;
    h *= 0xc2b2ae35u;
    return h ^ (h >> 16u);
}

// Noise of one output element: the sum of the hash's four bytes minus its mean, scaled.
fn noise(clip: ClipRecord, index: u32) -> f32 {
    let hash = finalise(finalise(index ^ clip.noise_key.x) + clip.noise_key.y);
    let pairs = (hash & 0x00ff00ffu) + ((hash >> 8u) & 0x00ff00ffu);
    let sum = (pairs & 0xffffu) + (pairs >> 16u);
    return f32(i32(sum) - 510) * clip.noise;
}

// An output pixel after space, colour and noise, in [0, 1].
fn stage(clip: ClipRecord, n: u32, t: u32, x: u32, y: u32) -> vec3<f32> {
    let zero = vec3(0.0);
    let one = vec3(1.0);
    let from_frame = frame_records[n * params.out_size.x + t].from_frame;
    var value = zero;
    if (from_frame != DROPPED) {
        value = sample(clip, n, from_frame, x, y);
    }
    let here = vec2(x, y);
    if (all(here >= clip.cutout_low) && all(here < clip.cutout_high)) {
        value = vec3(clip.fill);
    }
    value = clamp(value * clip.brightness, zero, one);
    value = clamp(value * clip.contrast + clip.contrast_shift, zero, one);
    if ((clip.flags & NOISY) != 0u) {
        let plane = params.out_size.x * params.out_pixels;
        let index = t * params.out_pixels + y * params.out_size.z + x;
        let added = vec3(
            noise(clip, index),
            noise(clip, plane + index),
            noise(clip, 2u * plane + index),
        );
        value = clamp(value + added, zero, one);
    }
    return value;
}

@compute @workgroup_size(GROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let out = params.out_size;
    // Both loops stride, so that any size fits the limits of a dispatch.
    for (var row = group.y; row < params.clips * out.x; row += params.frame_stride) {
        let n = row / out.x;
        let t = row % out.x;
        let clip = clip_records[n];
        let frame = frame_records[row];
        let frames = select(1u, 2u, frame.mix != 0.0);
        for (var at = group.x * GROUP + local; at < params.out_pixels; at += params.pixel_stride) {
            let y = at / out.z;
            let x = at - y * out.z;
            // The frame itself, then its partner. A loop rather than two calls: the code exists
            // once, and a software rasteriser, which computes both sides of every `if`, skips the
            // partner as well.
            var value = vec3(0.0);
            for (var i = 0u; i < frames; i++) {
                let other = stage(clip, n, select(frame.partner, t, i == 0u), x, y);
                value += (other - value) * select(frame.mix, 1.0, i == 0u);
            }
            value = (value - params.mean) * params.scale;
            let plane = out.x * params.out_pixels;
            let first = n * 3u * plane + t * params.out_pixels + at;
            clips[first] = value.x;
            clips[first + plane] = value.y;
            clips[first + 2u * plane] = value.z;
        }
    }
}
