"""The steps. A step that has been released is never changed; the next one goes on from it."""
