//! Which place of the answer each decoded frame takes.

/// The wanted frames by number; one number may stand at several places.
pub(super) struct Wanted {
    /// Frame numbers in ascending order.
    numbers: Vec<usize>,
    /// Beside each number its place.
    places: Vec<usize>,
}

impl Wanted {
    /// Frame `numbers[i]` is wanted at place `i`.
    pub fn new(numbers: &[usize]) -> Self {
        let mut places: Vec<usize> = (0..numbers.len()).collect();
        places.sort_by_key(|&place| numbers[place]);
        Self { numbers: places.iter().map(|&place| numbers[place]).collect(), places }
    }

    /// The places of a frame, ascending; none where it is not wanted.
    pub fn places(&self, number: usize) -> &[usize] {
        let from = self.numbers.partition_point(|&n| n < number);
        let to = self.numbers.partition_point(|&n| n <= number);
        &self.places[from..to]
    }

    /// The lowest and the highest number.
    pub fn ends(&self) -> Option<(usize, usize)> {
        Some((*self.numbers.first()?, *self.numbers.last()?))
    }
}
