//! Many short byte strings that grow together, in cells of one arena: none costs an allocation of its own, and all are
//! freed at once.

const CELL: usize = 32;
const LINK: usize = 4;
const ROOM: usize = CELL - LINK;
const CELLS_PER_PAGE: usize = 1 << 13;

/// A byte string in an [`Arena`]. Empty by default.
#[derive(Clone, Debug, Default)]
pub(super) struct Chain {
    /// One more than the number of the first and of the last cell; 0 for none.
    first: u32,
    last: u32,
    /// Bytes used in the last cell.
    used: u8,
}

/// Cells of [`CELL`] bytes: the number of the next cell of the chain, then bytes.
#[derive(Debug, Default)]
pub(super) struct Arena {
    pages: Vec<Vec<[u8; CELL]>>,
    cells: u32,
}

impl Arena {
    /// Appends bytes to a chain of this arena. Beyond four thousand million cells, which is 128 GiB, bytes are dropped:
    /// the engine's bound of memory lies far below.
    pub(super) fn append(&mut self, chain: &mut Chain, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if (chain.last == 0 || chain.used as usize == ROOM) && !self.extend(chain) {
                return;
            }
            let used = chain.used as usize;
            let taken = bytes.len().min(ROOM - used);
            let from = LINK + used;
            self.cell_mut(chain.last)[from..from + taken].copy_from_slice(&bytes[..taken]);
            chain.used += taken as u8;
            bytes = &bytes[taken..];
        }
    }

    /// The bytes of a chain of this arena.
    pub(super) fn bytes_of(&self, chain: &Chain) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut at = chain.first;
        while at != 0 {
            let cell = self.cell(at);
            let used = if at == chain.last { chain.used as usize } else { ROOM };
            bytes.extend_from_slice(&cell[LINK..LINK + used]);
            at = if at == chain.last { 0 } else { u32::from_le_bytes([cell[0], cell[1], cell[2], cell[3]]) };
        }
        bytes
    }

    /// Memory in use, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.cells) * CELL as u64
    }

    /// Gives a chain a fresh cell; `false` when there is none left.
    fn extend(&mut self, chain: &mut Chain) -> bool {
        let Some(number) = self.cells.checked_add(1) else { return false };
        if self.cells as usize == self.pages.len() * CELLS_PER_PAGE {
            self.pages.push(Vec::with_capacity(CELLS_PER_PAGE));
        }
        if let Some(page) = self.pages.last_mut() {
            page.push([0; CELL]);
        }
        self.cells = number;
        if chain.last == 0 {
            chain.first = number;
        } else {
            self.cell_mut(chain.last)[..LINK].copy_from_slice(&number.to_le_bytes());
        }
        (chain.last, chain.used) = (number, 0);
        true
    }

    fn cell(&self, number: u32) -> &[u8; CELL] {
        let at = number as usize - 1;
        &self.pages[at / CELLS_PER_PAGE][at % CELLS_PER_PAGE]
    }

    fn cell_mut(&mut self, number: u32) -> &mut [u8; CELL] {
        let at = number as usize - 1;
        &mut self.pages[at / CELLS_PER_PAGE][at % CELLS_PER_PAGE]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn strings_that_grow_in_turn_read_back_each_whole(pieces in prop::collection::vec((0usize..5, prop::collection::vec(any::<u8>(), 0..70)), 0..200)) {
            let mut arena = Arena::default();
            let mut chains: [Chain; 5] = Default::default();
            let mut expected: [Vec<u8>; 5] = Default::default();
            for (which, piece) in &pieces {
                arena.append(&mut chains[*which], piece);
                expected[*which].extend_from_slice(piece);
            }
            for (chain, expected) in chains.iter().zip(&expected) {
                prop_assert_eq!(&arena.bytes_of(chain), expected);
            }
        }
    }
}
