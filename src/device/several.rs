//! Lists of devices.

use super::adapters::{Adapter, adapters};
use super::{Compute, DeviceError, adapter_id, is_known, open_copy, why_unknown};

/// Opens the devices of a list: names that [`open`](super::open) takes, separated by commas; `all`
/// for the GPUs of this machine; `NAME*N` for N devices on the same hardware, for tests.
///
/// # Errors
/// [`DeviceError`].
pub fn open_all(list: &str) -> Result<Vec<Compute>, DeviceError> {
    let mut opened: Vec<Compute> = Vec::new();
    for name in names(list)? {
        // A device that is listed again is a further device on the same hardware. What a name
        // stands for is known only when it is opened.
        let first = open_copy(&name, 0)?;
        let copy = opened.iter().filter(|compute| compute.info.id == first.info.id).count();
        opened.push(if copy == 0 { first } else { open_copy(&name, copy)? });
    }
    Ok(opened)
}

/// Opens the devices of process `index` of `count` on this machine. Each process has all devices of
/// the list, except that `all`, `auto` and `gpu` divide the GPUs among the processes, one or more
/// for each.
///
/// # Errors
/// [`DeviceError`].
pub(crate) fn open_share(
    list: &str,
    index: usize,
    count: usize,
) -> Result<Vec<Compute>, DeviceError> {
    if !matches!(list, "all" | "auto" | "gpu") {
        return open_all(list);
    }
    match all() {
        Ok(gpus) => {
            let own = share_of(&gpus, index, count, list == "all");
            own.iter().map(|name| open_copy(name, 0)).collect()
        }
        Err(_) if list == "auto" => open_all(list),
        Err(error) => Err(error),
    }
}

/// Returns the names for process `index` of `count`. With `every`, all names are used; processes
/// share a name if there are more processes than names.
fn share_of(names: &[String], index: usize, count: usize, every: bool) -> Vec<String> {
    let first = index % names.len();
    let most = if every { names.len().div_ceil(count) } else { 1 };
    names[first..].iter().step_by(count.max(1)).take(most).cloned().collect()
}

/// Maximum number of devices in a list, more than a machine has.
const MAX_DEVICES: usize = 64;

/// Returns the first name in a list that has none of the known forms, and why it is unknown. A
/// malformed list has none: opening it reports the error.
pub(crate) fn unknown_name(list: &str) -> Option<(String, &'static str)> {
    // Which GPUs there are does not matter here.
    let names = names_with(list, || Ok(vec!["gpu".to_owned()])).ok()?;
    let name = names.into_iter().find(|name| !is_known(name))?;
    let reason = why_unknown(&name);
    Some((name, reason))
}

/// Returns the names in a list, one for each device.
fn names(list: &str) -> Result<Vec<String>, DeviceError> {
    names_with(list, all)
}

/// Like [`names`], with `all` returning the devices of that name.
fn names_with(
    list: &str,
    all: impl Fn() -> Result<Vec<String>, DeviceError>,
) -> Result<Vec<String>, DeviceError> {
    let wrong =
        |reason: &str| DeviceError::List { list: list.to_owned(), reason: reason.to_owned() };
    let mut names = Vec::new();
    for item in list.split(',') {
        let (name, times) = match item.split_once('*') {
            Some((name, times)) => (name, times.trim().parse().ok().filter(|times| *times > 0)),
            None => (item, Some(1)),
        };
        let (name, times) = (
            name.trim(),
            times.ok_or_else(|| wrong("* must be followed by a whole number of at least 1"))?,
        );
        let each = match name {
            "" => return Err(wrong("a device without a name")),
            "all" => all()?,
            _ => vec![name.to_owned()],
        };
        if names.len().saturating_add(each.len().saturating_mul(times)) > MAX_DEVICES {
            return Err(wrong("more devices than a machine has"));
        }
        (0..times).for_each(|_| names.extend(each.iter().cloned()));
    }
    Ok(names)
}

/// Returns the GPUs of this machine that are worth using together: those of the best kind, behind a
/// single API, since another API would list the same hardware again, as does a second driver for
/// the same API.
fn all() -> Result<Vec<String>, DeviceError> {
    let adapters = adapters();
    let best = adapters.first().filter(|best| best.rank().is_some());
    let best = best.ok_or_else(|| DeviceError::Absent {
        name: "all".to_owned(),
        reason: "no GPU found".to_owned(),
    })?;
    let alike = |adapter: &Adapter| {
        adapter.rank() == best.rank() && adapter.info.backend == best.info.backend
    };
    let indices: Vec<usize> = (0..adapters.len()).filter(|&i| alike(&adapters[i])).collect();
    let bus_ids: Vec<&str> =
        indices.iter().map(|&i| adapters[i].info.device_pci_bus_id.as_str()).collect();
    let cards = indices.iter().enumerate().filter(|&(nth, _)| is_first(&bus_ids, nth));
    Ok(cards.map(|(_, &index)| adapter_id(&adapters, index)).collect())
}

/// Whether an adapter is the first one of its card, given the PCI bus IDs of all adapters. Adapters
/// whose ID is unknown count as different cards.
fn is_first(bus_ids: &[&str], nth: usize) -> bool {
    bus_ids[nth].is_empty() || !bus_ids[..nth].contains(&bus_ids[nth])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn processes_of_a_machine_share_its_gpus() {
        let names = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(share_of(&names, 0, 2, true), ["a", "c"]);
        assert_eq!(share_of(&names, 1, 2, true), ["b"]);
        assert_eq!(share_of(&names, 0, 2, false), ["a"]);
        assert_eq!(share_of(&names, 4, 5, true), ["b"]);
    }

    #[test]
    fn a_card_with_two_drivers_is_one() {
        let bus_ids = ["0000:01:00.0", "0000:02:00.0", "0000:01:00.0", "", ""];
        let first: Vec<bool> = (0..bus_ids.len()).map(|nth| is_first(&bus_ids, nth)).collect();
        assert_eq!(first, [true, true, false, true, true]);
    }

    #[test]
    fn a_list_names_each_device() {
        assert_eq!(names("cpu").unwrap(), ["cpu"]);
        assert_eq!(names("wgpu:0, wgpu:1").unwrap(), ["wgpu:0", "wgpu:1"]);
        assert_eq!(names("cpu*3").unwrap(), ["cpu"; 3]);
        for wrong in ["cpu*0", "cpu*", "cpu*x", "cpu*-1"] {
            let error = names(wrong).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("{wrong}: * must be followed by a whole number of at least 1")
            );
        }
        assert_eq!(open_all("cpu*2").unwrap().len(), 2);
        assert_eq!(names("cpu *2, cpu").unwrap(), ["cpu"; 3]);
        assert_eq!(open_all("cpu,").unwrap_err().to_string(), "cpu,: a device without a name");
        assert!(names("cpu*1000000").unwrap_err().to_string().contains("more devices than"));
    }
}
