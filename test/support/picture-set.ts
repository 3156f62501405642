import { mulberry32 } from "../../src/core/functions.js";
import { jpegEncoder } from "./jpeg.js";
import { encodePng } from "./png.js";

/** What is rendered; the same for the same seed, on every machine. */
export interface PictureSetOptions {
  readonly seed?: number;
  /** Persons in both sets, each before every camera. */
  readonly identities?: number;
  readonly cameras?: number;
  /** Pictures of each person in the gallery, by each camera. */
  readonly shots?: number;
  /** Gallery pictures of persons who are not in the queries. */
  readonly distractors?: number;
  /** Gallery pictures that Market-1501 calls junk, of identity −1. */
  readonly junk?: number;
  readonly height?: number;
  readonly width?: number;
  /** What the files hold, whatever their names say. */
  readonly format?: "jpeg" | "png";
}

type Encode = (pixels: Uint8Array) => Uint8Array;

type Colour = readonly [red: number, green: number, blue: number];

/** How a person looks, wherever they are. */
interface Person {
  readonly skin: Colour;
  readonly top: Colour;
  readonly legs: Colour;
  readonly stripes: Colour | undefined;
  readonly bag: Colour | undefined;
  readonly build: number;
}

/** What a camera makes of them. */
interface Camera {
  readonly ground: Colour;
  readonly wall: Colour;
  readonly light: number;
  readonly tint: Colour;
}

/**
 * A data set in Market-1501's layout, of rendered figures: `query` with one picture of each person by each camera, and
 * `bounding_box_test`. JPEG files by their paths.
 *
 * A person is colours and a build; a camera is a background, a light and a tint; a picture adds a place, a stride and noise.
 */
export function pictureSet(options: PictureSetOptions = {}): Promise<ReadonlyMap<string, Uint8Array>> {
  const key = JSON.stringify(options);
  const rendered = sets.get(key) ?? renderAll(options);
  sets.set(key, rendered);
  return rendered;
}

/** What was rendered, by its options: once for all test files of a process. */
const sets = new Map<string, Promise<ReadonlyMap<string, Uint8Array>>>();

async function renderAll({
  seed = 0,
  identities = 6,
  cameras = 3,
  shots = 2,
  distractors = 4,
  junk = 2,
  height = 64,
  width = 32,
  format = "jpeg",
}: PictureSetOptions): Promise<ReadonlyMap<string, Uint8Array>> {
  const encode: Encode =
    format === "png" ? (pixels) => encodePng(width, height, pixels) : await jpegEncoder(width, height, 90);
  const random = mulberry32(seed);
  const colour = (): Colour => [60 + 170 * random(), 60 + 170 * random(), 60 + 170 * random()];
  const grey = (): Colour => {
    const level = 90 + 50 * random();
    return [level, level, level];
  };
  const person = (): Person => ({
    skin: [150 + 80 * random(), 110 + 60 * random(), 90 + 50 * random()],
    top: colour(),
    legs: colour(),
    stripes: random() < 0.4 ? colour() : undefined,
    bag: random() < 0.4 ? colour() : undefined,
    build: 0.8 + 0.4 * random(),
  });
  const views = Array.from(
    { length: cameras },
    (): Camera => ({
      ground: grey(),
      wall: grey(),
      light: 0.9 + 0.15 * random(),
      tint: [8 * random() - 4, 8 * random() - 4, 8 * random() - 4],
    }),
  );
  const files = new Map<string, Uint8Array>();
  const add = (folder: string, pid: string, who: Person, camera: number): void => {
    const view = views[camera];
    if (!view) throw new Error(`no camera ${camera}`);
    const frame = String(files.size).padStart(6, "0");
    const name = `${pid}_c${camera + 1}s1_${frame}_00.jpg`;
    files.set(`${folder}/${name}`, encode(render(who, view, { height, width }, random)));
  };
  for (let pid = 1; pid <= identities; pid++) {
    const who = person();
    for (let camera = 0; camera < cameras; camera++) {
      add("query", String(pid).padStart(4, "0"), who, camera);
      for (let shot = 0; shot < shots; shot++)
        add("bounding_box_test", String(pid).padStart(4, "0"), who, camera);
    }
  }
  for (let index = 0; index < distractors; index++)
    add("bounding_box_test", "0000", person(), index % cameras);
  for (let index = 0; index < junk; index++) add("bounding_box_test", "-1", person(), index % cameras);
  return files;
}

function render(
  { skin, top, legs, stripes, bag, build }: Person,
  { ground, wall, light, tint }: Camera,
  { height, width }: Required<Pick<PictureSetOptions, "height" | "width">>,
  random: () => number,
): Uint8Array {
  const data = new Uint8Array(3 * height * width);
  const [left, stride, noise] = [0.5 + 0.1 * (random() - 0.5), 0.1 + 0.15 * random(), 8];
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const across = (x + 0.5) / width - left;
      const down = (y + 0.5) / height;
      const limb = Math.abs(Math.abs(across) - stride * (down - 0.55));
      let seen = down > 0.85 ? ground : wall;
      if (Math.hypot(2 * across, down - 0.12) < 0.09) seen = skin;
      else if (down > 0.2 && down < 0.55 && Math.abs(across) < 0.24 * build)
        seen = stripes && Math.floor(down * 24) % 2 === 0 ? stripes : top;
      else if (down >= 0.55 && down < 0.95 && limb < 0.1 * build) seen = legs;
      if (bag && Math.hypot(2 * (across - 0.2), down - 0.4) < 0.1) seen = bag;
      for (let channel = 0; channel < 3; channel++)
        data[3 * (y * width + x) + channel] = Math.min(
          255,
          Math.max(0, light * (seen[channel] ?? 0) + (tint[channel] ?? 0) + noise * (random() - 0.5)),
        );
    }
  return data;
}
