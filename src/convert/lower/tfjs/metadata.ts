/** Keys of a model's own description in `userDefinedMetadata`. */
export const TFJS_METADATA = { spec: "osnet.spec", folded: "osnet.folded" } as const;
