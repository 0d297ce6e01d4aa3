//! Holds the encryption keys of a process: one key, or two while a new key replaces the former one.
//!
//! Opens with either key. Seals only texts that a rotation seals again, always with the newest key. Must not decide
//! which key seals other texts: the row of the table `installation` does, so that all processes agree.

use super::secret::{Encryptor, SealError};

/// The keys that open everything that is sealed in the database.
#[derive(Debug)]
pub struct EncryptionKeys {
    newest: Encryptor,
    /// The key that the newest one replaces; `None` means there is no rotation.
    former: Option<Encryptor>,
}

impl EncryptionKeys {
    /// Returns keys of which `former`, if there is one, is being replaced by `newest`.
    pub fn new(newest: Encryptor, former: Option<Encryptor>) -> Self {
        Self { newest, former }
    }

    /// Returns the newest key.
    pub fn newest(&self) -> &Encryptor {
        &self.newest
    }

    /// Returns the key that the newest one replaces. `None` means that this process has only one key.
    pub fn former(&self) -> Option<&Encryptor> {
        self.former.as_ref()
    }

    /// Returns the key with this check value.
    pub fn find(&self, check_value: &str) -> Option<&Encryptor> {
        self.iter().find(|key| key.check_value() == check_value)
    }

    /// Returns the check values of all keys, the newest key first.
    pub fn check_values(&self) -> impl Iterator<Item = String> {
        self.iter().map(Encryptor::check_value)
    }

    fn iter(&self) -> impl Iterator<Item = &Encryptor> {
        [&self.newest].into_iter().chain(&self.former)
    }

    /// Opens a text that either key has sealed for this context.
    pub fn open(&self, sealed: &str, context: &str) -> Result<Vec<u8>, SealError> {
        match (self.newest.open(sealed, context), &self.former) {
            (Err(SealError::NotAuthentic), Some(former)) => former.open(sealed, context),
            (opened, _) => opened,
        }
    }

    /// Returns the text sealed again with the newest key. `None` means the newest key has sealed it already.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn reseal(&self, sealed: &str, context: &str) -> Result<Option<String>, SealError> {
        if self.newest.open(sealed, context).is_ok() {
            return Ok(None);
        }
        let clear = self.open(sealed, context)?;
        Ok(Some(self.newest.seal(&clear, context)))
    }
}

impl From<Encryptor> for EncryptionKeys {
    fn from(key: Encryptor) -> Self {
        Self::new(key, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(letter: &str) -> Encryptor {
        Encryptor::new(&letter.repeat(32)).unwrap()
    }

    #[test]
    fn two_keys_open_what_either_has_sealed_and_nothing_else() {
        let keys = EncryptionKeys::new(key("b"), Some(key("a")));
        for sealed in [key("a").seal(b"x", "row"), key("b").seal(b"x", "row")] {
            assert_eq!(keys.open(&sealed, "row").unwrap(), b"x");
            assert_eq!(keys.open(&sealed, "other row"), Err(SealError::NotAuthentic));
        }
        assert_eq!(
            keys.open(&key("c").seal(b"x", "row"), "row"),
            Err(SealError::NotAuthentic)
        );
        assert_eq!(keys.open("x", "row"), Err(SealError::Malformed));
    }

    #[test]
    fn only_what_the_newest_key_does_not_open_is_sealed_anew() {
        let keys = EncryptionKeys::new(key("b"), Some(key("a")));
        let anew = keys.reseal(&key("a").seal(b"x", "row"), "row").unwrap().unwrap();
        assert_eq!(key("b").open(&anew, "row").unwrap(), b"x");
        assert_eq!(keys.reseal(&anew, "row"), Ok(None));
        let foreign = key("c").seal(b"x", "row");
        assert_eq!(keys.reseal(&foreign, "row"), Err(SealError::NotAuthentic));
    }

    #[test]
    fn a_key_is_found_by_its_check_value() {
        let keys = EncryptionKeys::new(key("b"), Some(key("a")));
        for letter in ["a", "b"] {
            let found = keys.find(&key(letter).check_value()).unwrap();
            assert_eq!(found.check_value(), key(letter).check_value());
        }
        assert!(keys.find(&key("c").check_value()).is_none());
    }
}
