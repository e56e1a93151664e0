//! Tests of the budget with several threads at once.

use super::*;

const ENTRY: u64 = 100;

fn limits() -> Limits {
    let rescan = Duration::from_secs(3600);
    Limits { max_bytes: 4 * ENTRY, min_free: 0, min_free_share: 0.0, rescan }
}

fn store(folder: &Folder, id: Id) {
    let path = folder.entry(&id);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, [0_u8; ENTRY as usize]).unwrap();
}

#[test]
fn what_happens_during_a_scan_is_counted_once() {
    let ids = [1, 2, 3, 4, 5].map(|n| Id([n; 16]));
    // The scan sees the changes made while it lists the entries, or it does not.
    for seen in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        ids[..2].iter().for_each(|id| store(&folder, *id));
        let budget = SizeBudget::new(&folder, limits());
        assert_eq!(budget.bytes(), 2 * ENTRY);
        let write = |id| {
            budget.admit(&folder, ENTRY, true, |_| true).unwrap();
            store(&folder, id);
            budget.settle(&id, ENTRY, true);
        };
        let list = || {
            let before = folder.scan();
            fs::remove_file(folder.entry(&ids[0])).unwrap();
            budget.forget(&ids[0], ENTRY);
            // More is added than removed, so that the total changes.
            write(ids[2]);
            write(ids[3]);
            assert_eq!(budget.bytes(), 3 * ENTRY);
            if seen { folder.scan() } else { before }
        };
        budget.scan_now(&lock(&budget.scanning), list);
        assert_eq!(budget.bytes(), 3 * ENTRY, "seen: {seen}");
        // Afterwards, the limit is exact.
        write(ids[4]);
        assert_eq!(budget.admit(&folder, ENTRY, true, |_| true), Err(Refusal::Full));
        assert_eq!(budget.bytes(), 4 * ENTRY);
    }
}

#[test]
fn a_scan_in_progress_does_not_replace_one_requested_later() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::open(dir.path()).unwrap();
    let ids = [1, 2].map(|n| Id([n; 16]));
    ids.iter().for_each(|id| store(&folder, *id));
    let budget = SizeBudget::new(&folder, limits());
    let scans = || lock(&budget.tally).scans;
    let mut requested = 0;
    let list = || {
        let found = folder.scan();
        // Another program removes an entry, and another thread requests a scan.
        fs::remove_file(folder.entry(&ids[0])).unwrap();
        requested = scans();
        found
    };
    budget.scan_now(&lock(&budget.scanning), list);
    assert_eq!(budget.bytes(), 2 * ENTRY);
    budget.scan_after(&folder, requested);
    assert_eq!(budget.bytes(), ENTRY);
    // That scan suffices for all threads that requested one before it started.
    let started = scans();
    budget.scan_after(&folder, requested);
    assert_eq!(scans(), started);
}

#[test]
fn writers_do_not_wait_for_a_scan_that_is_due() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::open(dir.path()).unwrap();
    let rescan = Duration::ZERO;
    let budget = SizeBudget::new(&folder, Limits { rescan, ..limits() });
    // Another thread's scan does not end.
    let _scanning = lock(&budget.scanning);
    budget.admit(&folder, ENTRY, true, |_| false).unwrap();
    budget.settle(&Id([1; 16]), ENTRY, true);
    assert_eq!(budget.bytes(), ENTRY);
}

#[test]
fn files_admitted_at_the_same_time_do_not_share_the_same_free_space() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::open(dir.path()).unwrap();
    let free = fs4::statvfs(folder.root()).unwrap().available_space();
    // Space for one, but not for two, also if other programs write meanwhile.
    let bytes = free / 5 * 3;
    let rescan = Duration::ZERO;
    let budget = SizeBudget::new(&folder, Limits { max_bytes: u64::MAX, rescan, ..limits() });
    let admit = || budget.admit(&folder, bytes, true, |_| false);
    std::thread::scope(|scope| {
        // The slow thread stops between its first check of the disk and its reservation: at the end
        // of its scan.
        let no_end_of_scan = lock(&budget.evicting);
        let slow = scope.spawn(admit);
        while lock(&budget.tally).changes.is_none() {
            assert!(!slow.is_finished());
            std::thread::yield_now();
        }
        admit().unwrap();
        drop(no_end_of_scan);
        let refused = slow.join().unwrap();
        assert!(matches!(refused, Err(Refusal::LowDisk { .. })), "{refused:?}");
    });
    // The refused file is no longer counted.
    assert_eq!(lock(&budget.tally).in_flight, bytes);
    budget.settle(&Id([1; 16]), bytes, false);
    admit().unwrap();
}
