export { select } from "d3-selection";
export { zoom, zoomIdentity } from "d3-zoom";
export { interpolateViridis } from "d3-scale-chromatic";
export { default as KDBush } from "kdbush";
export { Idiomorph } from "idiomorph/dist/idiomorph.esm.js";
export { default as UPlot } from "uplot";
