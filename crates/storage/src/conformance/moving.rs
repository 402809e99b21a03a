//! A store that is moved or deleted while it is open.

use std::fs;
use std::path::Path;

use super::Store;
use super::content::{Author, CoValueFixture, append, load};
use crate::error::StorageError;

pub(super) async fn nothing_is_stored_while_the_store_is_moved_away(
    dir: &Path,
    open: &impl AsyncFn(&Path) -> Store,
) {
    let (here, away) = (dir.join("store"), dir.join("away"));
    let (co_value, mut author) = (CoValueFixture::new(1), Author::new(1));
    let store = open(&here).await;
    append(&store, co_value.create(vec![author.write(1, 20)])).await;
    store.check().await.unwrap();

    fs::rename(&here, &away).unwrap();
    let late = vec![co_value.extend(vec![author.write(1, 20)])];
    for error in [store.check().await.unwrap_err(), store.append(late.clone()).await.unwrap_err()] {
        assert!(matches!(error, StorageError::Gone { .. }), "{error:?}");
        assert!(error.to_string().contains(&here.display().to_string()), "{error}");
    }
    // Files that are open can still be read. A file that is not open is not opened elsewhere.
    match store.load(co_value.id).await {
        Ok(stored) => assert_eq!(stored.unwrap().sessions[0].count, 1),
        Err(error) => assert!(matches!(error, StorageError::Gone { .. }), "{error:?}"),
    }

    drop(open(&here).await);
    let error = store.append(late.clone()).await.unwrap_err();
    assert!(error.to_string().contains("another file"), "{error}");
    fs::remove_dir_all(&here).unwrap();

    fs::rename(&away, &here).unwrap();
    store.check().await.unwrap();
    assert!(store.append(late).await.unwrap()[0].is_complete());
    store.close().await.unwrap();
    let store = open(&here).await;
    assert_eq!(load(&store, co_value.id).await.sessions[0].count, 2);
}

pub(super) async fn nothing_is_stored_once_the_store_is_deleted(
    dir: &Path,
    open: &impl AsyncFn(&Path) -> Store,
) {
    let here = dir.join("store");
    let (co_value, mut author) = (CoValueFixture::new(1), Author::new(1));
    let store = open(&here).await;
    append(&store, CoValueFixture::new(2).create(Vec::new())).await;
    fs::remove_dir_all(&here).unwrap();
    let write = co_value.create(vec![author.write(1, 20)]);
    let error = store.append(vec![write]).await.unwrap_err();
    assert!(matches!(error, StorageError::Gone { .. }), "{error:?}");
}
