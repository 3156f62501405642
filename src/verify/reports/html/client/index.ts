/**
 * What a report does in a browser: functions that are written into the page as they are. Each may use nothing but its
 * arguments, so that it means the same wherever its text stands, whatever a bundler has called it.
 */
import { connectLayers } from "./layers.js";
import { connectMaps } from "./maps.js";
import { makeFilterable, makeSortable } from "./tables.js";
import { makeThemeButton } from "./theme.js";
import { makeTip } from "./tip.js";

/** The page's script. */
export const SCRIPT: string = `(function(){"use strict";
document.body.classList.remove("noscript");
document.querySelectorAll("table.data").forEach(function(table){(${makeSortable})(document,table)});
document.querySelectorAll(".controls[data-for]").forEach(function(controls){(${makeFilterable})(document,controls)});
var tip=(${makeTip})(document);
(${connectLayers})(document,tip);
(${connectMaps})(document,tip);
(${makeThemeButton})(document,matchMedia("(prefers-color-scheme:dark)").matches);
})();`;
