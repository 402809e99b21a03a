//! Things in the order of their last uses. Each step costs the same, however many there are.

/// A table of numbered things. Each has a place for its neighbours in the list.
pub(crate) trait Linked {
    /// The place of a thing, or `None` if there is none with the number.
    fn links(&mut self, number: u32) -> Option<&mut Links>;
}

/// The neighbours of a thing in the list, if it is in the list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Links {
    before: u32,
    after: u32,
}

/// The things of a table in the order of their uses.
#[derive(Debug)]
pub(crate) struct UseList {
    first: u32,
    last: u32,
}

/// No neighbour.
const END: u32 = u32::MAX;

/// In `before`: not in the list.
const OUTSIDE: u32 = u32::MAX - 1;

impl UseList {
    /// The least recently used one.
    pub(crate) fn first(&self) -> Option<u32> {
        (self.first != END).then_some(self.first)
    }

    /// One is used: it becomes the last.
    pub(crate) fn push(&mut self, table: &mut impl Linked, number: u32) {
        if self.last == number {
            return;
        }
        self.remove(table, number);
        let Some(links) = table.links(number) else { return };
        *links = Links { before: self.last, after: END };
        match table.links(self.last) {
            Some(last) => last.after = number,
            None => self.first = number,
        }
        self.last = number;
    }

    /// Takes one out, if it is in the list.
    pub(crate) fn remove(&mut self, table: &mut impl Linked, number: u32) {
        let Some(links) = table.links(number) else { return };
        let Links { before, after } = std::mem::take(links);
        if before == OUTSIDE {
            return;
        }
        match table.links(before) {
            Some(before) => before.after = after,
            None => self.first = after,
        }
        match table.links(after) {
            Some(after) => after.before = before,
            None => self.last = before,
        }
    }
}

impl Default for UseList {
    fn default() -> Self {
        Self { first: END, last: END }
    }
}

impl Default for Links {
    fn default() -> Self {
        Self { before: OUTSIDE, after: END }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Linked for [Links; 10] {
        fn links(&mut self, number: u32) -> Option<&mut Links> {
            self.get_mut(number as usize)
        }
    }

    fn drain(list: &mut UseList, table: &mut [Links; 10]) -> Vec<u32> {
        let take = || {
            let first = list.first()?;
            list.remove(table, first);
            Some(first)
        };
        std::iter::from_fn(take).collect()
    }

    #[test]
    fn the_least_recently_used_is_first() {
        let (mut list, mut table) = (UseList::default(), [Links::default(); 10]);
        for number in [4, 0, 2, 4, 9, 0, 0, 10] {
            list.push(&mut table, number);
        }
        assert_eq!(drain(&mut list, &mut table), [2, 4, 9, 0]);
        assert_eq!(list.first(), None);
    }

    #[test]
    fn one_can_be_taken_out_anywhere() {
        for out in 0..4 {
            let (mut list, mut table) = (UseList::default(), [Links::default(); 10]);
            for number in 0..4 {
                list.push(&mut table, number);
            }
            for number in [out, out, 10] {
                list.remove(&mut table, number);
            }
            let expected: Vec<u32> = (0..4).filter(|number| *number != out).collect();
            assert_eq!(drain(&mut list, &mut table), expected);
            list.push(&mut table, out);
            assert_eq!(drain(&mut list, &mut table), [out]);
        }
    }
}
