//! Batches: order, content, and the effect of unreadable clips.

use std::sync::Arc;

use polyview::data::cache::FrameCache;
use polyview::data::loader::{Loader, Prefetch, in_order, shuffled};
use polyview::data::sampling::WindowSpec;
use polyview::data::{Batch, Dataset, DatasetError};
use polyview::schema::Schema;
use tempfile::TempDir;

use crate::common::data::{clip, small_set};
use crate::common::wait::until;

const WINDOW: WindowSpec = WindowSpec::frames(2, 9, 25.0, 4);

fn set() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    small_set(folder.path());
    folder
}

fn open(folder: &TempDir) -> Dataset {
    let schema = Schema::mvfoul().unwrap();
    Dataset::open(folder.path(), "train", &schema, WINDOW, [20, 24], None).unwrap()
}

fn read_all(dataset: &Arc<Dataset>, plan: &[Vec<usize>], workers: usize) -> Vec<Batch> {
    Loader::new(Arc::clone(dataset), plan.to_vec(), workers).map(Result::unwrap).collect()
}

#[test]
fn batches_do_not_depend_on_the_number_of_workers() {
    let folder = set();
    let dataset = Arc::new(open(&folder));
    let plan = shuffled(dataset.samples.len(), 5, 42, 1);
    let alone = read_all(&dataset, &plan, 0);
    assert_eq!(alone.len(), 3);
    assert_eq!(alone[0].frames.len(), 10 * 4 * 20 * 24 * 3);
    assert_eq!(alone[2].view_counts, [2, 2]);
    for workers in [1, 4] {
        assert_eq!(read_all(&dataset, &plan, workers), alone, "{workers} workers");
    }
}

/// Returns a checksum of everything in a batch.
fn sum(batch: &Batch) -> u32 {
    let words = format!("{:?} {:?} {:?}", batch.actions, batch.views, batch.labels);
    crc32c::crc32c_append(crc32c::crc32c(&batch.frames), words.as_bytes())
}

#[test]
fn fifty_batches_have_the_same_bytes_for_any_workers_and_cache() {
    let folder = set();
    let cache = |name: &str| FrameCache::open(&folder.path().join(name), 1 << 30).unwrap();
    // A damaged clip in the middle must not shift the others.
    std::fs::write(clip(folder.path(), 5, 1), b"not a video").unwrap();
    let plain = Arc::new(open(&folder));
    let plan: Vec<Vec<usize>> =
        (0..).flat_map(|epoch| shuffled(12, 5, 42, epoch)).take(50).collect();
    let expected: Vec<u32> = read_all(&plain, &plan, 0).iter().map(sum).collect();
    assert_eq!(expected.len(), 50);
    let distinct: std::collections::HashSet<_> = expected.iter().collect();
    assert!(distinct.len() > 45, "{}", distinct.len());
    let shared = Arc::new(cache("shared"));
    for workers in [0, 1, 4] {
        let cold = Arc::new(open(&folder).with_cache(Arc::new(cache(&format!("of{workers}")))));
        let warm = Arc::new(open(&folder).with_cache(Arc::clone(&shared)));
        for (name, dataset) in [("no", &plain), ("a new", &cold), ("a shared", &warm)] {
            for ahead in [(4, 2 << 30), (1, 1), (100, 3 * 10 * plain.clip_bytes() as u64)] {
                let ahead = Prefetch { workers, batches: ahead.0, bytes: ahead.1 };
                let mut loader = Loader::with_prefetch(Arc::clone(dataset), plan.clone(), ahead);
                let mut sums = Vec::new();
                while let Some(batch) = loader.next() {
                    let batch = batch.unwrap();
                    sums.push(sum(&batch));
                    loader.recycle(batch);
                }
                assert!(sums == expected, "{ahead:?}, {name} cache");
            }
        }
    }
    let stats = shared.stats();
    assert_eq!((stats.written, stats.damaged), (23, 0));
    assert!(stats.hits > 3 * stats.misses, "{stats}");
}

#[test]
fn the_loader_stays_within_its_limits() {
    let folder = set();
    let dataset = Arc::new(open(&folder));
    let clip = dataset.clip_bytes() as u64;
    // Batches of 4 clips; two and a half of them fit.
    let bytes = 10 * clip;
    let ahead = Prefetch { workers: 4, batches: 100, bytes };
    let plan: Vec<_> = (0..5).flat_map(|_| in_order(12, 2)).collect();
    let mut loader = Loader::with_prefetch(Arc::clone(&dataset), plan, ahead);
    let mut count = 0;
    // The bound is reached before anything is taken out, and never exceeded afterwards.
    until("two batches read ahead", || loader.peak_bytes() >= 8 * clip);
    while let Some(batch) = loader.next() {
        loader.recycle(batch.unwrap());
        count += 1;
    }
    assert_eq!(count, 30);
    assert_eq!(loader.peak_bytes(), 8 * clip, "two batches and not three");
    // The limit on batches holds whatever the bytes.
    let ahead = Prefetch { workers: 4, batches: 1, bytes: u64::MAX };
    let plan: Vec<_> = (0..5).flat_map(|_| in_order(12, 2)).collect();
    let mut loader = Loader::with_prefetch(Arc::clone(&dataset), plan, ahead);
    // A thread that has no clip left to read would begin the next batch while the others still
    // read this one.
    assert_eq!(loader.by_ref().map(Result::unwrap).count(), 30);
    assert_eq!(loader.peak_bytes(), 4 * clip);
}

#[test]
fn ready_batches_are_returned_without_waiting() {
    let folder = set();
    let dataset = Arc::new(open(&folder));
    let mut alone = Loader::new(Arc::clone(&dataset), in_order(12, 4), 0);
    assert!(alone.ready().unwrap().is_none(), "nobody reads ahead");
    let mut loader = Loader::new(Arc::clone(&dataset), in_order(12, 4), 2);
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let batch = match loader.ready().unwrap() {
            Some(batch) => batch,
            None => loader.next().unwrap().unwrap(),
        };
        seen.push(batch.actions);
    }
    assert_eq!(seen.concat(), (0..12).map(|action| action.to_string()).collect::<Vec<_>>());
    assert!(loader.ready().unwrap().is_none() && loader.next().is_none());
}

#[test]
fn the_order_changes_with_seed_and_epoch_only() {
    let order = |seed, epoch| shuffled(20, 6, seed, epoch).concat();
    assert_eq!(order(1, 1), order(1, 1));
    assert_ne!(order(1, 1), order(1, 2));
    assert_ne!(order(1, 1), order(2, 1));
    let mut sorted = order(5, 7);
    sorted.sort_unstable();
    assert_eq!(sorted, (0..20).collect::<Vec<_>>());
    assert_eq!(in_order(5, 2), [vec![0, 1], vec![2, 3], vec![4]]);
}

#[test]
fn dropping_a_loader_midway_ends_its_threads() {
    let folder = set();
    let dataset = Arc::new(open(&folder));
    let mut loader = Loader::new(Arc::clone(&dataset), in_order(12, 1), 3);
    loader.next().unwrap().unwrap();
    drop(loader);
    assert_eq!(Arc::strong_count(&dataset), 1, "a thread still holds the data set");
}

#[test]
fn only_an_unreadable_view_itself_is_left_out() {
    let folder = set();
    std::fs::write(clip(folder.path(), 0, 0), b"not a video").unwrap();
    std::fs::remove_file(clip(folder.path(), 1, 0)).unwrap();
    std::fs::write(clip(folder.path(), 1, 1), b"").unwrap();
    let dataset = Arc::new(open(&folder));
    let batches = read_all(&dataset, &in_order(12, 4), 2);
    assert_eq!(batches[0].actions, ["0", "2", "3"], "action 1 has no readable view");
    assert_eq!(batches[0].view_counts, [1, 2, 2]);
    assert_eq!(batches[0].views, [1, 0, 1, 0, 1]);
    assert_eq!(batches[0].labels[0].len(), 3);
    let kinds: Vec<&str> = dataset.unreadable().iter().map(|error| error.kind()).collect();
    assert_eq!(kinds.len(), 3);
    for kind in ["missing", "empty"] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
}

#[test]
fn too_many_unreadable_views_end_the_run() {
    let folder = set();
    for action in 0..3 {
        for view in 0..2 {
            std::fs::write(clip(folder.path(), action, view), b"").unwrap();
        }
    }
    let dataset = Arc::new(open(&folder));
    let error = Loader::new(dataset, in_order(12, 4), 2).find_map(Result::err).unwrap();
    let DatasetError::TooManyUnreadable { views, ref errors, .. } = error else {
        panic!("{error}");
    };
    assert_eq!((views, errors.len()), (24, 5), "the fifth of 24 is more than 20 %");
    let message = error.to_string();
    assert!(message.contains("action_0") && message.contains("clip is empty"), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
}
