//! Loading throughput of clips that are decoded, decoded and added to the cache, or read from the
//! cache, and of a plain read of the same number of bytes, with 1 and 2 workers. Measurements are
//! interleaved, and medians are compared:
//! `cargo bench --profile dev --bench loader -- ROOT [HEIGHT WIDTH]`, for every clip below ROOT, by
//! default 224 398. With `--json`, it prints one line per reader, as `scripts/baseline_loader.py` does
//! for other readers.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::hint::black_box;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use polyview::config::ClipConfig;
use polyview::data::Dataset;
use polyview::data::cache::FrameCache;
use polyview::data::loader::{Loader, Prefetch};
use polyview::schema::Schema;

const ROUNDS: usize = 5;
/// Passes over the clips per measurement of a fast reader.
const MANY: usize = 20;
/// Passes over the clips per measurement of a slow reader, more than one because only the first
/// batches allocate memory, and later ones reuse it, as in training.
const SOME: usize = 4;
/// Clips per batch.
const BATCH: usize = 4;

fn clips(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    // macOS leaves files whose names start with a dot next to clips.
    let hidden = |path: &PathBuf| path.file_name().unwrap().as_encoded_bytes().starts_with(b".");
    entries.retain(|path| !hidden(path));
    entries.sort();
    for path in entries {
        if path.is_dir() {
            clips(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "mp4") {
            found.push(path);
        }
    }
}

/// Returns the seconds that a loader takes for `passes` passes over the data set.
fn load(dataset: &Arc<Dataset>, workers: usize, passes: usize) -> f64 {
    let count = dataset.samples.len();
    let order: Vec<usize> = (0..passes).flat_map(|_| 0..count).collect();
    let plan: Vec<Vec<usize>> = order.chunks(BATCH).map(<[usize]>::to_vec).collect();
    let start = Instant::now();
    let mut loader =
        Loader::with_prefetch(Arc::clone(dataset), plan, Prefetch::with_workers(workers));
    let mut clips = 0;
    while let Some(batch) = loader.next() {
        let batch = black_box(batch.unwrap());
        clips += batch.clips();
        loader.recycle(batch);
    }
    assert_eq!(clips, passes * count, "a clip could not be read");
    start.elapsed().as_secs_f64()
}

/// Returns the seconds that `workers` threads take to read files of a clip's size from the page
/// cache, in the loader's batches.
fn plain_read(files: &[PathBuf], clip: usize, workers: usize, passes: usize) -> f64 {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for worker in 0..workers {
            scope.spawn(move || {
                let order: Vec<&PathBuf> = (0..passes).flat_map(|_| files).collect();
                for batch in order.chunks(BATCH).skip(worker).step_by(workers) {
                    let mut frames = vec![0; batch.len() * clip];
                    for (file, slot) in batch.iter().zip(frames.chunks_exact_mut(clip)) {
                        fs::File::open(file).unwrap().read_exact(slot).unwrap();
                    }
                    black_box(frames);
                }
            });
        }
    });
    start.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let json = args.iter().any(|arg| arg == "--json");
    let sizes: Vec<usize> = args.iter().filter_map(|arg| arg.parse().ok()).collect();
    let size = sizes.try_into().unwrap_or([224, 398]);
    let root = args
        .iter()
        .find(|arg| Path::new(arg).is_dir())
        .expect("an argument must be a folder of clips");
    let mut found = Vec::new();
    clips(Path::new(root), &mut found);
    let count = found.len();
    let temporary = tempfile::tempdir().unwrap();
    let window = ClipConfig::default().window(&Schema::mvfoul().unwrap()).unwrap();
    let open = || {
        let actions = found.iter().map(|path| (path.display().to_string(), vec![path.clone()]));
        Dataset::of_clips(actions.collect(), window, size)
    };
    let decoded = Arc::new(open());
    let bytes = decoded.clip_bytes();
    let kept = Arc::new(FrameCache::open(&temporary.path().join("kept"), 1 << 40).unwrap());
    let cached = Arc::new(open().with_cache(Arc::clone(&kept)));
    load(&cached, 1, 1);
    let files: Vec<PathBuf> = (0..count)
        .map(|file| {
            let path = temporary.path().join(file.to_string());
            fs::write(&path, vec![file as u8; bytes]).unwrap();
            path
        })
        .collect();
    eprintln!("{count} clips of {}×{}×{}", window.frames_per_clip, size[0], size[1]);
    for workers in [1, 2] {
        let mut seconds: [Vec<f64>; 4] = Default::default();
        for round in 0..ROUNDS {
            let fresh = temporary.path().join(format!("fresh{workers}-{round}"));
            let filling = Arc::new(FrameCache::open(&fresh, 1 << 40).unwrap());
            let filling = Arc::new(open().with_cache(filling));
            let now = [
                load(&decoded, workers, SOME) / SOME as f64,
                load(&filling, workers, 1),
                load(&cached, workers, MANY) / MANY as f64,
                plain_read(&files, bytes, workers, MANY) / MANY as f64,
            ];
            seconds.iter_mut().zip(now).for_each(|(all, now)| all.push(now));
            fs::remove_dir_all(fresh).unwrap();
        }
        let names = ["decoded", "decoded and kept", "from the cache", "plain read"];
        for (name, seconds) in names.into_iter().zip(seconds) {
            let rate = count as f64 / median(seconds);
            if json {
                println!(
                    "{{\"reader\":\"polyview, {name}\",\"workers\":{workers},\"clips_per_s\":{rate:.1}}}"
                );
            } else {
                let gigabytes = rate * bytes as f64 / 1e9;
                println!("{workers} workers, {name:>16}: {rate:8.1} clips/s, {gigabytes:.2} GB/s");
            }
        }
    }
    assert_eq!(kept.stats().misses, count as u64, "the cache was not warm: {}", kept.stats());
}
