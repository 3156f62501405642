/** A decoded picture: 8 bits per channel, red, green, blue, pixel after pixel, rows from the top. */
export interface Pixels {
  readonly width: number;
  readonly height: number;
  /** 3 · width · height values of 0 to 255. */
  readonly data: Uint8Array;
}
