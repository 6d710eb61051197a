import { expect, test } from "vitest";
import { PIECE_BYTES, ReceiveMemory } from "../../../src/upstream/receive-memory.ts";

test("pieces are given out again, and no more of them are kept than a few bodies need", () => {
  const memory = new ReceiveMemory();
  const pieces = Array.from({ length: 100 }, () => memory.takePiece());
  expect(new Set(pieces).size).toBe(100);
  for (const piece of pieces) memory.givePiece(piece);
  expect(memory.freePieces).toBe(24);
  const again = Array.from({ length: 24 }, () => memory.takePiece());
  expect(again.every((piece) => pieces.includes(piece))).toBe(true);
  expect(new Set(again).size).toBe(24);
  expect(memory.freePieces).toBe(0);
});

test("what was no piece does not become one", () => {
  const memory = new ReceiveMemory();
  memory.givePiece(Buffer.alloc(PIECE_BYTES - 1));
  memory.givePiece(Buffer.alloc(PIECE_BYTES + 1));
  expect(memory.freePieces).toBe(0);
});
