//! Values by series number. Numbers are never handed out twice, so over the years those in use become few and far apart:
//! only the pages that hold one take memory.

use super::labels::SeriesId;

const PAGE: usize = 1 << 10;

/// A value for each series number; `T::default()` for all that were not set.
#[derive(Debug)]
pub(super) struct Paged<T> {
    pages: Vec<Option<Box<Page<T>>>>,
}

#[derive(Debug)]
struct Page<T> {
    slots: [T; PAGE],
    /// How many slots are not the default.
    used: usize,
}

impl<T> Default for Paged<T> {
    fn default() -> Self {
        Self { pages: Vec::new() }
    }
}

impl<T: Default + PartialEq> Paged<T> {
    /// The value of a number, where it is not the default.
    pub(super) fn get(&self, id: SeriesId) -> Option<&T> {
        let (page, slot) = place(id);
        let value = &self.pages.get(page)?.as_ref()?.slots[slot];
        (*value != T::default()).then_some(value)
    }

    /// Sets the value of a number, and gives back the one before. The default frees the room.
    pub(super) fn set(&mut self, id: SeriesId, value: T) -> T {
        let (page, slot) = place(id);
        let vacant = value == T::default();
        if self.pages.get(page).is_none_or(Option::is_none) {
            if vacant {
                return value;
            }
            self.add_page(page);
        }
        let Some(found) = &mut self.pages[page] else { return value };
        let before = std::mem::replace(&mut found.slots[slot], value);
        found.used -= usize::from(before != T::default());
        found.used += usize::from(!vacant);
        if found.used == 0 {
            self.pages[page] = None;
        }
        before
    }

    /// The values that are not the default, in order of number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (SeriesId, &T)> {
        let pages = self.pages.iter().enumerate().filter_map(|(at, page)| Some((at, page.as_ref()?)));
        let slots = pages.flat_map(|(at, page)| (at * PAGE..).zip(&page.slots));
        slots.filter(|(_, value)| **value != T::default()).map(|(id, value)| (id as SeriesId, value))
    }

    fn add_page(&mut self, page: usize) {
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || None);
        }
        self.pages[page] = Some(Box::new(Page { slots: std::array::from_fn(|_| T::default()), used: 0 }));
    }
}

fn place(id: SeriesId) -> (usize, usize) {
    (id as usize / PAGE, id as usize % PAGE)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map_whose_default_is_nothing(steps in prop::collection::vec((0..5000u32, 0..3u8), 0..400)) {
            let (mut paged, mut map) = (Paged::default(), BTreeMap::new());
            for (id, value) in steps {
                let before = if value == 0 { map.remove(&id) } else { map.insert(id, value) };
                prop_assert_eq!(paged.set(id, value), before.unwrap_or_default());
                prop_assert_eq!(paged.get(id), map.get(&id));
            }
            prop_assert!(paged.iter().eq(map.iter().map(|(id, value)| (*id, value))));
            let pages: std::collections::BTreeSet<usize> = map.keys().map(|id| place(*id).0).collect();
            prop_assert_eq!(paged.pages.iter().flatten().count(), pages.len());
        }
    }

    #[test]
    fn the_greatest_number_takes_one_page() {
        let mut paged = Paged::default();
        assert_eq!(paged.set(u32::MAX, 7), 0);
        assert_eq!((paged.get(u32::MAX), paged.get(0)), (Some(&7), None));
        assert_eq!(paged.pages.iter().flatten().count(), 1);
    }
}
