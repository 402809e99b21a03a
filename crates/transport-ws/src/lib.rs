//! WebSocket transport for Downbeat, as Jazz clients speak it.
