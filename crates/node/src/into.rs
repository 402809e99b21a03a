//! What the builder takes: storages, listeners and connectors, bare, boxed or shared.
//!
//! A parameter `M` tells the implementations of these traits apart. The compiler infers it, and
//! callers never name it.

use std::sync::Arc;

use downbeat_storage::Storage;
use downbeat_transport::{Connector, Listener};

/// The value itself.
#[derive(Debug)]
pub enum Bare {}

/// The value in an `Arc`.
#[derive(Debug)]
pub enum InArc {}

/// The value in a `Box`.
#[derive(Debug)]
pub enum InBox {}

/// An `Arc` of a trait object.
#[derive(Debug)]
pub enum DynArc {}

/// A `Box` of a trait object.
#[derive(Debug)]
pub enum DynBox {}

/// A [`Storage`], or one in an `Arc` or a `Box`. Implemented for all of these.
pub trait IntoStorage<M> {
    /// The storage as the node keeps it.
    fn into_storage(self) -> Arc<dyn Storage>;
}

/// A [`Listener`], or one in a `Box`. Implemented for all of these.
pub trait IntoListener<M> {
    /// The listener as the node keeps it.
    fn into_listener(self) -> Box<dyn Listener>;
}

/// A [`Connector`], or one in an `Arc` or a `Box`. Implemented for all of these.
pub trait IntoConnector<M> {
    /// The connector as the node keeps it.
    fn into_connector(self) -> Arc<dyn Connector>;
}

impl<T: Storage + 'static> IntoStorage<Bare> for T {
    fn into_storage(self) -> Arc<dyn Storage> {
        Arc::new(self)
    }
}

impl<T: Storage + 'static> IntoStorage<InArc> for Arc<T> {
    fn into_storage(self) -> Arc<dyn Storage> {
        self
    }
}

impl<T: Storage + 'static> IntoStorage<InBox> for Box<T> {
    fn into_storage(self) -> Arc<dyn Storage> {
        Arc::new(*self)
    }
}

impl IntoStorage<DynArc> for Arc<dyn Storage> {
    fn into_storage(self) -> Arc<dyn Storage> {
        self
    }
}

impl IntoStorage<DynBox> for Box<dyn Storage> {
    fn into_storage(self) -> Arc<dyn Storage> {
        self.into()
    }
}

impl<T: Listener + 'static> IntoListener<Bare> for T {
    fn into_listener(self) -> Box<dyn Listener> {
        Box::new(self)
    }
}

impl<T: Listener + 'static> IntoListener<InBox> for Box<T> {
    fn into_listener(self) -> Box<dyn Listener> {
        self
    }
}

impl IntoListener<DynBox> for Box<dyn Listener> {
    fn into_listener(self) -> Box<dyn Listener> {
        self
    }
}

impl<T: Connector + 'static> IntoConnector<Bare> for T {
    fn into_connector(self) -> Arc<dyn Connector> {
        Arc::new(self)
    }
}

impl<T: Connector + 'static> IntoConnector<InArc> for Arc<T> {
    fn into_connector(self) -> Arc<dyn Connector> {
        self
    }
}

impl<T: Connector + 'static> IntoConnector<InBox> for Box<T> {
    fn into_connector(self) -> Arc<dyn Connector> {
        Arc::new(*self)
    }
}

impl IntoConnector<DynArc> for Arc<dyn Connector> {
    fn into_connector(self) -> Arc<dyn Connector> {
        self
    }
}

impl IntoConnector<DynBox> for Box<dyn Connector> {
    fn into_connector(self) -> Arc<dyn Connector> {
        self.into()
    }
}
