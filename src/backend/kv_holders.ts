/**
 * Who holds a chunk: a cache and its forks share theirs, and what one lets go for good goes for all.
 *
 * @module
 */

/** A store, as its chunks know it. */
export interface ChunkHolder<Chunk> {
  /** Whether it has that chunk there. */
  holds(index: number, chunk: Chunk): boolean;
  /** Whether no attention call of it needs the chunk. */
  canForget(index: number): boolean;
  /** Lets go of the chunk for good. */
  forget(index: number): void;
}

/** A cache and its forks. */
export class ChunkHolders<Chunk> extends Set<ChunkHolder<Chunk>> {
  /** Whether nobody needs a chunk. */
  canForget(index: number, chunk: Chunk): boolean {
    return this.#of(index, chunk).every((holder) => holder.canForget(index));
  }

  /** Lets go of a chunk for all who hold it. */
  forget(index: number, chunk: Chunk): void {
    for (const holder of this.#of(index, chunk)) holder.forget(index);
  }

  #of(index: number, chunk: Chunk): ChunkHolder<Chunk>[] {
    return [...this].filter((holder) => holder.holds(index, chunk));
  }
}
