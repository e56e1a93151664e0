// The augmentation of a batch in one pass: source frames [N, T, H, W, 3] in, normalised clips
// [N, 3, T', H', W'] out, every output value written once and no image in between.
//
// An invocation takes pixels of one frame at a time, a workgroup neighbouring ones, so that both
// the clip's numbers and the memory traffic are shared. The arithmetic is that of
// src/augment/{geometry,noise,host}.rs, where the formulas are explained; what is changed here is
// changed there.
//
// Template: `source_f32` tells whether the source holds f32 in [0, 1] or uint8, four to a word;
// `group` is the number of invocations in a workgroup, `bits` that of fractional bits in a place.

const SOURCE_F32: bool = {{ source_f32 }};
const GROUP: u32 = {{ group }}u;
const BITS: u32 = {{ bits }}u;

// src/augment/wgsl.rs writes this buffer: header, then N clips, then N·T' frames,
// then for each clip the parts of a place by column and by row.
const HEADER: u32 = 16u;
const CLIP: u32 = 24u;
const FRAME: u32 = 3u;
const DROPPED: u32 = 0xffffffffu;
const ROTATED: u32 = 1u;
const ON_GRID: u32 = 2u;
const NOISY: u32 = 4u;

// Read-write though only `clips` is written: buffers may share one allocation, which must not be
// bound both ways.
@group(0) @binding(0) var<storage, read_write> source: array<u32>;
@group(0) @binding(1) var<storage, read_write> plan: array<u32>;
@group(0) @binding(2) var<storage, read_write> clips: array<f32>;

struct Size {
    clips: u32,
    // Source.
    t: u32,
    h: u32,
    w: u32,
    // Output.
    out_t: u32,
    out_h: u32,
    out_w: u32,
}

struct Clip {
    // Places in fixed point, (x, y).
    low: vec2<i32>,
    high: vec2<i32>,
    start: vec2<i32>,
    end: vec2<i32>,
    inverse: vec2<f32>,
    flags: u32,
    key: vec2<u32>,
    noise: f32,
    brightness: f32,
    contrast: f32,
    contrast_shift: f32,
    // x0, y0, x1, y1, ends excluded.
    cutout: vec4<u32>,
    fill: f32,
}

fn real(index: u32) -> f32 {
    return bitcast<f32>(plan[index]);
}

fn pair(index: u32) -> vec2<f32> {
    return vec2(real(index), real(index + 1u));
}

fn place(index: u32) -> vec2<i32> {
    return bitcast<vec2<i32>>(vec2(plan[index], plan[index + 1u]));
}

fn load_size() -> Size {
    return Size(plan[0], plan[1], plan[2], plan[3], plan[4], plan[5], plan[6]);
}

fn load_clip(n: u32) -> Clip {
    let at = HEADER + n * CLIP;
    return Clip(
        place(at),
        place(at + 2u),
        place(at + 4u),
        place(at + 6u),
        pair(at + 8u),
        plan[at + 10u],
        vec2(plan[at + 11u], plan[at + 12u]),
        real(at + 13u),
        real(at + 14u),
        real(at + 15u),
        real(at + 16u),
        vec4(plan[at + 17u], plan[at + 18u], plan[at + 19u], plan[at + 20u]),
        real(at + 21u),
    );
}

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
fn sample(size: Size, clip: Clip, n: u32, from_frame: u32, x: u32, y: u32) -> vec3<f32> {
    let table = HEADER + size.clips * (CLIP + size.out_t * FRAME)
        + n * 2u * (size.out_w + size.out_h);
    let open = place(table + 2u * x) + place(table + 2u * (size.out_w + y));
    let closed = max(min(max(open, clip.low), clip.high), vec2(0));
    let last = vec2(size.w - 1u, size.h - 1u);
    let first = min(vec2<u32>(closed) >> vec2(BITS), last);
    let base = (n * size.t + from_frame) * size.h * size.w;
    let upper = base + first.y * size.w;
    if ((clip.flags & ON_GRID) != 0u) {
        return pixel(upper + first.x);
    }
    let second = min(first + 1u, last);
    let lower = base + second.y * size.w;
    let weight = vec2<f32>(vec2<u32>(closed) & vec2((1u << BITS) - 1u)) / f32(1u << BITS);
    let above = mix(pixel(upper + first.x), pixel(upper + second.x), weight.x);
    let below = mix(pixel(lower + first.x), pixel(lower + second.x), weight.x);
    let value = mix(above, below, weight.y);
    if ((clip.flags & ROTATED) == 0u) {
        return value;
    }
    let from_start = vec2<f32>(open - clip.start) * clip.inverse + 1.0;
    let to_end = vec2<f32>(clip.end - open) * clip.inverse;
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

// Noise of one output element: the sum of the hash's four bytes about its mean, scaled.
fn noise(clip: Clip, index: u32) -> f32 {
    let hash = finalise(finalise(index ^ clip.key.x) + clip.key.y);
    let pairs = (hash & 0x00ff00ffu) + ((hash >> 8u) & 0x00ff00ffu);
    let sum = (pairs & 0xffffu) + (pairs >> 16u);
    return f32(i32(sum) - 510) * clip.noise;
}

// An output pixel after space, colour and noise, in [0, 1].
fn stage(size: Size, clip: Clip, n: u32, t: u32, x: u32, y: u32) -> vec3<f32> {
    let zero = vec3(0.0);
    let one = vec3(1.0);
    let from_frame = plan[HEADER + size.clips * CLIP + (n * size.out_t + t) * FRAME];
    var value = zero;
    if (from_frame != DROPPED) {
        value = sample(size, clip, n, from_frame, x, y);
    }
    let here = vec2(x, y);
    if (all(here >= clip.cutout.xy) && all(here < clip.cutout.zw)) {
        value = vec3(clip.fill);
    }
    value = clamp(value * clip.brightness, zero, one);
    value = clamp(value * clip.contrast + clip.contrast_shift, zero, one);
    if ((clip.flags & NOISY) != 0u) {
        let plane = size.out_t * size.out_h * size.out_w;
        let index = (t * size.out_h + y) * size.out_w + x;
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
    let size = load_size();
    let pixel_stride = plan[7];
    let frame_stride = plan[8];
    let mean = vec3(pair(9u), real(11u));
    let scale = vec3(pair(12u), real(14u));
    let pixels = size.out_h * size.out_w;
    // Both loops stride, so that any size fits the limits of a dispatch.
    for (var row = group.y; row < size.clips * size.out_t; row += frame_stride) {
        let n = row / size.out_t;
        let t = row % size.out_t;
        let clip = load_clip(n);
        let frame = HEADER + size.clips * CLIP + row * FRAME;
        let partner = plan[frame + 1u];
        let share = real(frame + 2u);
        let turns = select(1u, 2u, share != 0.0);
        for (var at = group.x * GROUP + local; at < pixels; at += pixel_stride) {
            let y = at / size.out_w;
            let x = at - y * size.out_w;
            // A loop rather than two calls: the code exists once, and a software rasteriser, which
            // computes both sides of every `if`, leaves the partner out as well.
            var value = vec3(0.0);
            for (var turn = 0u; turn < turns; turn++) {
                let found = stage(size, clip, n, select(partner, t, turn == 0u), x, y);
                value += (found - value) * select(share, 1.0, turn == 0u);
            }
            value = (value - mean) * scale;
            let plane = size.out_t * pixels;
            let first = n * 3u * plane + t * pixels + at;
            clips[first] = value.x;
            clips[first + plane] = value.y;
            clips[first + 2u * plane] = value.z;
        }
    }
}
