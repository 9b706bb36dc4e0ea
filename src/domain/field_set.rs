//! A set of fields by their index in a description.
//!
//! Comes in: indices. Goes out: the same, in rising order, each once. It grows as needed; a set that nothing was put
//! into takes no memory.

use std::fmt;

#[derive(Clone, Default)]
pub struct FieldSet {
    words: Vec<u64>,
}

impl FieldSet {
    pub fn insert(&mut self, field: usize) {
        let word = field / 64;
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        if let Some(word) = self.words.get_mut(word) {
            *word |= 1 << (field % 64);
        }
    }

    pub fn contains(&self, field: usize) -> bool {
        self.words.get(field / 64).is_some_and(|word| word >> (field % 64) & 1 == 1)
    }

    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(place, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
                rest &= rest - 1;
                Some(place * 64 + bit)
            })
        })
    }

    /// Adds all of `other`.
    pub fn extend(&mut self, other: &Self) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        for (word, more) in self.words.iter_mut().zip(&other.words) {
            *word |= more;
        }
    }
}

impl fmt::Debug for FieldSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl PartialEq for FieldSet {
    /// By what is in it; how much room it has makes no difference.
    fn eq(&self, other: &Self) -> bool {
        let most = self.words.len().max(other.words.len());
        let word = |set: &Self, place: usize| set.words.get(place).copied().unwrap_or(0);
        (0..most).all(|place| word(self, place) == word(other, place))
    }
}

impl Eq for FieldSet {}

impl FromIterator<usize> for FieldSet {
    fn from_iter<I: IntoIterator<Item = usize>>(fields: I) -> Self {
        let mut set = Self::default();
        fields.into_iter().for_each(|field| set.insert(field));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_in_order_once() {
        let set: FieldSet = [130, 0, 63, 64, 0, 5].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 5, 63, 64, 130]);
        assert_eq!((set.len(), set.is_empty(), FieldSet::default().is_empty()), (5, false, true));
        assert!(set.contains(63) && !set.contains(62) && !set.contains(9_999));
        let mut more: FieldSet = [5, 700].into_iter().collect();
        more.extend(&set);
        assert_eq!(more.iter().collect::<Vec<_>>(), [0, 5, 63, 64, 130, 700]);
        assert_eq!(FieldSet { words: vec![1, 0] }, [0].into_iter().collect());
        assert_ne!(more, set);
    }
}
