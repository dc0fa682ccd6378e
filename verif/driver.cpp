// Carries a C driver: the accelerator in the harness, its registers and memory given to `run` of a shared library.
//
// usage: harness +library=FILE +base=ADDRESS +latency=CYCLES [argument of run]...
// Each register access clocks the model until its response, and IDLE cycles more on a read, so that polling lets time
// pass. Exits with what `run` returns, or with 99 when a protocol was broken.

#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "Vtop.h"
#include "Vtop___024root.h"
#include "verilated.h"

static constexpr int IDLE = 50, PATIENCE = 1000;

static std::unique_ptr<VerilatedContext> context;
static std::unique_ptr<Vtop> top;

typedef int (*run_function)(void (*write)(void*, uint32_t, uint32_t), uint32_t (*read)(void*, uint32_t),
                            int (*irq)(void*), uint8_t* memory, uint64_t address, int argc, char** argv);

[[noreturn]] static void fail(const std::string& text) {
    std::fprintf(stderr, "driver: %s\n", text.c_str());
    std::exit(98);
}

static std::string option(const char* name) {
    const std::string key = std::string(name) + "=";
    const std::string word = context->commandArgsPlusMatch(key.c_str());
    if (word.size() <= key.size() + 1) fail("option +" + key + ": missing");
    return word.substr(key.size() + 1);
}

static void clock_cycle() {
    top->aclk = 1;
    top->eval();
    context->timeInc(5000);
    top->aclk = 0;
    top->eval();
    context->timeInc(5000);
}

static void write_register(void*, uint32_t offset, uint32_t value) {
    top->s_axi_ctrl_awaddr = offset;
    top->s_axi_ctrl_wdata = value;
    top->s_axi_ctrl_wstrb = 15;
    top->s_axi_ctrl_awvalid = top->s_axi_ctrl_wvalid = top->s_axi_ctrl_bready = 1;
    for (int i = 0; i < PATIENCE; ++i) {
        top->eval();
        const bool aw = top->s_axi_ctrl_awready, w = top->s_axi_ctrl_wready, b = top->s_axi_ctrl_bvalid;
        clock_cycle();
        if (aw) top->s_axi_ctrl_awvalid = 0;
        if (w) top->s_axi_ctrl_wvalid = 0;
        if (b) {
            top->s_axi_ctrl_bready = 0;
            return;
        }
    }
    fail("no write response");
}

static uint32_t read_register(void*, uint32_t offset) {
    top->s_axi_ctrl_araddr = offset;
    top->s_axi_ctrl_arvalid = top->s_axi_ctrl_rready = 1;
    for (int i = 0; i < PATIENCE; ++i) {
        top->eval();
        const bool ar = top->s_axi_ctrl_arready, r = top->s_axi_ctrl_rvalid;
        const uint32_t value = top->s_axi_ctrl_rdata;
        clock_cycle();
        if (ar) top->s_axi_ctrl_arvalid = 0;
        if (r) {
            top->s_axi_ctrl_rready = 0;
            for (int idle = 0; idle < IDLE; ++idle) clock_cycle();
            return value;
        }
    }
    fail("no read response");
}

static int irq(void*) {
    top->eval();
    return top->irq;
}

int main(int argc, char** argv) {
    context = std::make_unique<VerilatedContext>();
    context->commandArgs(argc, argv);
    const uint64_t base = std::strtoull(option("base").c_str(), nullptr, 0);
    void* library = dlopen(option("library").c_str(), RTLD_NOW);
    if (!library) fail(dlerror());
    const auto run = reinterpret_cast<run_function>(dlsym(library, "run"));
    if (!run) fail(dlerror());
    top = std::make_unique<Vtop>(context.get());
    top->latency = std::strtoul(option("latency").c_str(), nullptr, 0);
    top->memory_base = base;
    top->aresetn = 0;
    for (int i = 0; i < 8; ++i) clock_cycle();
    top->aresetn = 1;
    clock_cycle();
    uint8_t* memory = reinterpret_cast<uint8_t*>(&top->rootp->harness__DOT__memory__DOT__mem);
    const int result = run(write_register, read_register, irq, memory, base, argc, argv);
    if (top->violations) return 99;
    top->final();
    return result;
}
