/** ImageNet statistics that torchreid normalises images with, RGB. */
export const MEAN = [0.485, 0.456, 0.406] as const;
export const DEVIATION = [0.229, 0.224, 0.225] as const;
