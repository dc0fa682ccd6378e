// What a program tells the macros of a simulated design, and asks of them. All tiles of the process share it.

#pragma once

#include <cstdint>

extern "C" {
// Bits and row groups of the inputs of the layer that runs: phase = (key * bits + phase_bit) * groups + phase_group.
void imc_context(int bits, int groups);
// Coordinate of all noise drawn from now on.
void imc_image(int64_t image);
// Load crossbars, in place of those with the same number; load the phases of an image, in place of all others.
// nullptr, or what is wrong with the file.
const char* imc_macros(const char* path);
const char* imc_values(const char* path);
// Load what jobs are to do to crossbars, and how comparisons of cells are answered, behind what is there.
const char* imc_actions(const char* path);
// Log samples and draws to a file, records of nine int64 (verif/imc/macro_shell.py); an empty path ends the log.
const char* imc_log(const char* path);
// JSON: samples, comparisons, phases (sampled at least once, of the loaded ones), expected, actions of jobs,
// actions_expected, errors by kind.
const char* imc_report();
// Forget counts, errors and jobs.
void imc_clear();
// A draw of golden.imc.noise: h of the recurrence for a seed, a kind and its coordinates; and its Gaussian.
int64_t imc_draw(int64_t seed, int kind, const int64_t* coordinates, int count);
int64_t imc_gaussian(int64_t h, int64_t scale);
}
