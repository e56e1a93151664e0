//! Execution of the records on the CPU, in one pass from source rows to output rows, with frames in
//! parallel. Used for Burn's CPU backend and for devices that do not run WGSL.

use std::ops::Range;

use rayon::prelude::*;

use super::job::{AugmentJob, Clip, Frames};

/// Type of a source value: one channel of one pixel.
trait Value: Copy + Sync + 'static {
    /// Factor that maps stored values to [0, 1].
    const UNIT: f32;
    fn raw(self) -> f32;
    /// Returns the values as indices into a table of all possible values, if the type has few
    /// enough.
    fn levels(values: &[Self]) -> Option<&[u8]>;
}

impl Value for u8 {
    const UNIT: f32 = 1.0 / 255.0;
    #[inline]
    fn raw(self) -> f32 {
        f32::from(self)
    }
    fn levels(values: &[Self]) -> Option<&[u8]> {
        Some(values)
    }
}

impl Value for f32 {
    const UNIT: f32 = 1.0;
    #[inline]
    fn raw(self) -> f32 {
        self
    }
    fn levels(_: &[Self]) -> Option<&[u8]> {
        None
    }
}

/// One row of an output frame in each of the three channels.
type Rows<'a> = [&'a mut [f32]; 3];

/// Output of each of the 256 source values per channel, for pixels that are neither interpolated
/// nor noisy nor mixed.
type Table = [[f32; 256]; 3];

/// Look-up table of a clip, and the source that it is applied to.
struct LookUp<'a> {
    /// `[T, H, W, 3]`.
    source: &'a [u8],
    table: Box<Table>,
}

/// Row-sized buffers of one task, so that no memory is allocated per row.
struct Scratch {
    /// A source row interpolated between two others, channels interleaved.
    between: Vec<f32>,
    /// The mixing partner's row.
    partner: [Vec<f32>; 3],
}

/// Executes a job and returns `[N, 3, T', H', W']`, row-major.
pub fn execute(job: &AugmentJob) -> Vec<f32> {
    match job.frames {
        Frames::U8(source) => run(job, source),
        Frames::F32(source) => run(job, source),
    }
}

fn run<V: Value>(job: &AugmentJob, source: &[V]) -> Vec<f32> {
    let [t, h, w] = job.out;
    let mut out = vec![0.0_f32; job.out_shape().iter().product()];
    let clips: Vec<ClipRun<V>> =
        (0..job.clips.len()).map(|n| ClipRun::new(job, source, n)).collect();
    // The three channel planes of a frame are T' planes apart; one task writes all three, so that
    // an interleaved source pixel is read only once.
    let mut tasks = Vec::with_capacity(clips.len() * t);
    for (clip, values) in clips.iter().zip(out.chunks_mut(3 * t * h * w)) {
        let (red, rest) = values.split_at_mut(t * h * w);
        let (green, blue) = rest.split_at_mut(t * h * w);
        let planes = red.chunks_mut(h * w).zip(green.chunks_mut(h * w)).zip(blue.chunks_mut(h * w));
        tasks.extend(planes.enumerate().map(|(frame, ((r, g), b))| (clip, frame, [r, g, b])));
    }
    tasks.into_par_iter().for_each(|(clip, frame, planes)| clip.write_frame(frame, planes));
    out
}

/// One clip of a job, prepared for writing its frames.
struct ClipRun<'a, V> {
    job: &'a AugmentJob<'a>,
    clip: &'a Clip,
    index: usize,
    /// `[T, H, W, 3]`.
    source: &'a [V],
    /// Per output column, the offsets of the two neighbours in a source row and the weight of the
    /// second. Empty with rotation, where a column's source differs from row to row.
    columns: Vec<(usize, usize, f32)>,
    look_up: Option<LookUp<'a>>,
}

impl<'a, V: Value> ClipRun<'a, V> {
    fn new(job: &'a AugmentJob<'a>, source: &'a [V], index: usize) -> Self {
        let clip = &job.clips[index];
        let geometry = &clip.geometry;
        let [t, h, w] = job.size;
        let length = t * h * w * 3;
        let columns = (0..if geometry.rotated { 0 } else { job.out[2] })
            .map(|x| {
                let position = geometry.columns[x][0];
                let (first, second, weight) = geometry.neighbours(0, position, w);
                (3 * first, 3 * second, weight)
            })
            .collect();
        let source = &source[index * length..][..length];
        let by_table = geometry.on_grid && clip.noise.is_none();
        let look_up = V::levels(source).filter(|_| by_table).map(|source| {
            let mut table = Box::new([[0.0; 256]; 3]);
            for (c, levels) in table.iter_mut().enumerate() {
                for (level, value) in levels.iter_mut().enumerate() {
                    let coloured = clip.colour(level as f32 * V::UNIT);
                    *value = (coloured - job.mean[c]) * job.scale[c];
                }
            }
            LookUp { source, table }
        });
        Self { job, clip, index, source, columns, look_up }
    }

    /// Writes all rows of one output frame.
    fn write_frame(&self, frame: usize, planes: [&mut [f32]; 3]) {
        let [_, _, w] = self.job.out;
        let record = &self.job.records[self.index].frames[frame];
        let mut scratch = Scratch { between: Vec::new(), partner: [(); 3].map(|()| Vec::new()) };
        let [red, green, blue] = planes;
        let rows = red.chunks_mut(w).zip(green.chunks_mut(w)).zip(blue.chunks_mut(w));
        for (y, ((r, g), b)) in rows.enumerate() {
            let mut rows: Rows = [r, g, b];
            if let Some(look_up) = &self.look_up
                && !record.dropped
                && record.mix == 0.0
            {
                self.look_up_row(look_up, record.source, y, &mut rows);
                continue;
            }
            self.stage_row(frame, y, &mut rows, &mut scratch.between);
            if record.mix > 0.0 {
                let mut partner = std::mem::take(&mut scratch.partner);
                partner.iter_mut().for_each(|row| row.resize(w, 0.0));
                let [r, g, b] = &mut partner;
                let between = &mut scratch.between;
                self.stage_row(record.partner, y, &mut [r, g, b], between);
                for (row, other) in rows.iter_mut().zip(&partner) {
                    for (value, other) in row.iter_mut().zip(other) {
                        *value += (other - *value) * record.mix;
                    }
                }
                scratch.partner = partner;
            }
            for (c, row) in rows.iter_mut().enumerate() {
                let (mean, scale) = (self.job.mean[c], self.job.scale[c]);
                row.iter_mut().for_each(|value| *value = (*value - mean) * scale);
            }
        }
    }

    /// Returns the range of a row in the source.
    fn row_range(&self, frame: usize, y: usize) -> Range<usize> {
        let [_, h, w] = self.job.size;
        let first = (frame * h + y) * w * 3;
        first..first + w * 3
    }

    /// Returns a source row.
    fn row(&self, frame: usize, y: usize) -> &[V] {
        &self.source[self.row_range(frame, y)]
    }

    /// Writes an output row with the look-up table.
    fn look_up_row(&self, look_up: &LookUp, frame: usize, y: usize, rows: &mut Rows) {
        let geometry = &self.clip.geometry;
        let (line, ..) = geometry.neighbours(1, geometry.rows[y][1], self.job.size[1]);
        let source = &look_up.source[self.row_range(frame, line)];
        let table = &look_up.table;
        let [r, g, b] = rows;
        let out = r.iter_mut().zip(g.iter_mut()).zip(b.iter_mut());
        let write = |((r, g), b): ((&mut f32, &mut f32), &mut f32), pixel: &[u8]| {
            let value = |c: usize| table[c][usize::from(pixel[c])];
            (*r, *g, *b) = (value(0), value(1), value(2));
        };
        match (self.columns.first(), self.columns.last()) {
            // The columns run through the source one by one, up or down.
            (Some(first), Some(last)) if first.0 <= last.0 => {
                let pixels = source[first.0..last.0 + 3].chunks_exact(3);
                out.zip(pixels).for_each(|(out, pixel)| write(out, pixel));
            }
            (Some(first), Some(last)) => {
                let pixels = source[last.0..first.0 + 3].chunks_exact(3).rev();
                out.zip(pixels).for_each(|(out, pixel)| write(out, pixel));
            }
            _ => {}
        }
        let filled = self.clip.colour(self.clip.fill);
        self.cut_out(y, rows, |c| (filled - self.job.mean[c]) * self.job.scale[c]);
    }

    /// Writes `value(channel)` where the cutout lies in row `y`.
    fn cut_out(&self, y: usize, rows: &mut Rows, value: impl Fn(usize) -> f32) {
        let [x0, y0, x1, y1] = self.clip.cutout;
        if (y0..y1).contains(&y) && x0 < x1 {
            for (c, row) in rows.iter_mut().enumerate() {
                row[x0..x1].fill(value(c));
            }
        }
    }

    /// Writes an output row after the spatial, colour and noise stages, in [0, 1].
    fn stage_row(&self, frame: usize, y: usize, rows: &mut Rows, between: &mut Vec<f32>) {
        let record = &self.job.records[self.index].frames[frame];
        let geometry = &self.clip.geometry;
        if record.dropped {
            rows.iter_mut().for_each(|row| row.fill(0.0));
        } else if geometry.rotated {
            self.rotated_row(record.source, y, rows);
        } else if geometry.on_grid {
            let (line, ..) = geometry.neighbours(1, geometry.rows[y][1], self.job.size[1]);
            let source = self.row(record.source, line);
            for (c, row) in rows.iter_mut().enumerate() {
                for (value, (first, ..)) in row.iter_mut().zip(&self.columns) {
                    *value = source[first + c].raw() * V::UNIT;
                }
            }
        } else {
            self.unrotated_row(record.source, y, rows, between);
        }
        self.cut_out(y, rows, |_| self.clip.fill);
        for row in rows.iter_mut() {
            row.iter_mut().for_each(|value| *value = self.clip.colour(*value));
        }
        if let Some(noise) = self.clip.noise {
            let [t, h, w] = self.job.out;
            for (c, row) in rows.iter_mut().enumerate() {
                // `AugmentJob::new` checked that this fits in 32 bits.
                let first = (((c * t + frame) * h + y) * w) as u32;
                for (x, value) in row.iter_mut().enumerate() {
                    *value = (*value + noise.at(first + x as u32)).clamp(0.0, 1.0);
                }
            }
        }
    }

    /// Resamples a row without rotation: first vertically, over the whole source row at once, then
    /// horizontally.
    fn unrotated_row(&self, frame: usize, y: usize, rows: &mut Rows, between: &mut Vec<f32>) {
        let geometry = &self.clip.geometry;
        let position = geometry.rows[y][1];
        let (upper, lower, weight) = geometry.neighbours(1, position, self.job.size[1]);
        // The columns are monotonic, so the outermost two bound the part of the row that is read.
        let bounds = [self.columns.first(), self.columns.last()].map(|c| c.copied());
        let [Some(a), Some(b)] = bounds else { return };
        let (from, to) = (a.0.min(b.0), a.1.max(b.1) + 3);
        let (upper, lower) = (&self.row(frame, upper)[from..to], &self.row(frame, lower)[from..to]);
        between.clear();
        between.extend(upper.iter().zip(lower).map(|(upper, lower)| {
            let upper = upper.raw();
            (upper + (lower.raw() - upper) * weight) * V::UNIT
        }));
        let [r, g, b] = rows;
        let out = r.iter_mut().zip(g.iter_mut()).zip(b.iter_mut());
        for (((r, g), b), &(first, second, weight)) in out.zip(&self.columns) {
            let (left, right) = (&between[first - from..][..3], &between[second - from..][..3]);
            let sample = |c: usize| left[c] + (right[c] - left[c]) * weight;
            (*r, *g, *b) = (sample(0), sample(1), sample(2));
        }
    }

    /// Resamples a row with rotation, pixel by pixel.
    fn rotated_row(&self, frame: usize, y: usize, rows: &mut Rows) {
        let geometry = &self.clip.geometry;
        let [_, h, w] = self.job.size;
        let source = &self.source[frame * h * w * 3..][..h * w * 3];
        let [r, g, b] = rows;
        let out = r.iter_mut().zip(g.iter_mut()).zip(b.iter_mut());
        for (x, ((r, g), b)) in out.enumerate() {
            let [sx, sy] = geometry.place(x, y);
            let inside = geometry.coverage(0, sx) * geometry.coverage(1, sy);
            if inside == 0.0 {
                (*r, *g, *b) = (0.0, 0.0, 0.0);
                continue;
            }
            let (left, right, across) = geometry.neighbours(0, sx, w);
            let (upper, lower, down) = geometry.neighbours(1, sy, h);
            let pixel = |y: usize, x: usize| &source[(y * w + x) * 3..][..3];
            let (above, below) = (
                [pixel(upper, left), pixel(upper, right)],
                [pixel(lower, left), pixel(lower, right)],
            );
            let (heavy, light) = ((1.0 - down) * inside * V::UNIT, down * inside * V::UNIT);
            let sample = |c: usize| {
                let line = |[first, second]: [&[V]; 2]| {
                    first[c].raw() * (1.0 - across) + second[c].raw() * across
                };
                line(above) * heavy + line(below) * light
            };
            (*r, *g, *b) = (sample(0), sample(1), sample(2));
        }
    }
}

impl Clip {
    /// Applies brightness, then contrast, each clamped.
    #[inline]
    fn colour(&self, value: f32) -> f32 {
        let bright = (value * self.brightness).clamp(0.0, 1.0);
        (bright * self.contrast + self.contrast_shift).clamp(0.0, 1.0)
    }
}
