//! Transposition between `[channels, positions]` and `[positions, channels]`.

/// Some rows of `size` values, `pitch` apart, as a panel `[size, width]`, filled up with zeros where
/// there are fewer rows.
pub(super) fn transpose(
    rows: &[f32],
    pitch: usize,
    count: usize,
    size: usize,
    width: usize,
    panel: &mut [f32],
) {
    let panel = &mut panel[..size * width];
    if count < width {
        panel.fill(0.0);
    }
    let row = |k: usize| &rows[k * pitch..][..size];
    let mut group = 0;
    while group + 8 <= count {
        // Eight at a time, so that lines are written in long pieces.
        let [a, b, c, d] = [0, 1, 2, 3].map(|k| row(group + k));
        let [e, f, g, h] = [4, 5, 6, 7].map(|k| row(group + k));
        for (p, line) in panel.chunks_exact_mut(width).enumerate() {
            let line = &mut line[group..group + 8];
            (line[0], line[1], line[2], line[3]) = (a[p], b[p], c[p], d[p]);
            (line[4], line[5], line[6], line[7]) = (e[p], f[p], g[p], h[p]);
        }
        group += 8;
    }
    for k in group..count {
        for (line, &value) in panel.chunks_exact_mut(width).zip(row(k)) {
            line[k] = value;
        }
    }
}

/// Writes the sums `[taps, width]` from column `first` on to `place` and following of each line.
pub(super) fn scatter(
    sums: &[f32],
    width: usize,
    first: usize,
    lines: &mut [&mut [f32]],
    place: usize,
) {
    let sums = sums.chunks_exact(width).enumerate();
    if let [a, b, c, d, e, f, g, h] = lines {
        // Eight at a time, so that a line of sums is read in long pieces.
        for (tap, sums) in sums {
            let (p, s) = (place + tap, &sums[first..first + 8]);
            (a[p], b[p], c[p], d[p]) = (s[0], s[1], s[2], s[3]);
            (e[p], f[p], g[p], h[p]) = (s[4], s[5], s[6], s[7]);
        }
    } else {
        for (tap, sums) in sums {
            for (line, &sum) in lines.iter_mut().zip(&sums[first..]) {
                line[place + tap] = sum;
            }
        }
    }
}
