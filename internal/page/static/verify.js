/* Pasban; Apache-2.0. Built by web/build.mjs, do not edit. */
