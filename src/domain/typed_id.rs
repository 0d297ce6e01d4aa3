//! The types of the ids on the path of a message, so that the compiler finds swapped ones.
//!
//! An id is shared text: a clone copies nothing. Must not check the text: it comes from the source of ids, or from a
//! column of that id.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use super::id::{Id, Prefix};

macro_rules! id_types {
    ($($name:ident: $prefix:ident),+ $(,)?) => {$(
        #[doc = concat!("The id of a thing of the kind [`Prefix::", stringify!($prefix), "`].")]
        #[derive(Clone, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Id for $name {
            const PREFIX: Prefix = Prefix::$prefix;
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        /// Maps by id are also looked up by text: hash and order are those of the text.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    )+};
}

id_types! {
    AppId: Application,
    EndpointId: Endpoint,
    MessageId: Message,
    DeliveryId: Delivery,
    AttemptId: Attempt,
    TaskId: BackgroundTask,
}

impl AppId {
    /// Returns the text for a key that may be an endpoint's id too.
    pub(crate) fn shared(&self) -> &Arc<str> {
        &self.0
    }
}

impl EndpointId {
    /// Returns the text for a key that may be an application's id too.
    pub(crate) fn shared(&self) -> &Arc<str> {
        &self.0
    }
}
