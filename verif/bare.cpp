// Bare clock loop around the harness: the speed that the shipped path is compared with.
//
// usage: harness +image=FILE +cycles=N +base=N +program=N +input=N +stats=N +latency=N +bandwidth=N
// Starts the accelerator, starts it again whenever irq rises, clocks N cycles from the first start, prints one JSON line.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "Vtop.h"
#include "verilated.h"

static std::unique_ptr<VerilatedContext> context;
static std::unique_ptr<Vtop> top;
static uint64_t clocked;

static uint64_t option(const char* name) {
    const std::string key = std::string(name) + "=";
    const std::string word = context->commandArgsPlusMatch(key.c_str());
    if (word.size() <= key.size() + 1) {
        std::fprintf(stderr, "bare: option +%s: missing\n", key.c_str());
        std::exit(2);
    }
    return std::strtoull(word.c_str() + key.size() + 1, nullptr, 0);
}

static void clock_cycle() {
    top->aclk = 1;
    top->eval();
    context->timeInc(5000);
    top->aclk = 0;
    top->eval();
    context->timeInc(5000);
    ++clocked;
}

static void write_register(uint32_t address, uint32_t data) {
    top->s_axi_ctrl_awaddr = address;
    top->s_axi_ctrl_wdata = data;
    top->s_axi_ctrl_wstrb = 15;
    top->s_axi_ctrl_awvalid = top->s_axi_ctrl_wvalid = 1;
    top->s_axi_ctrl_bready = 1;
    for (int i = 0; i < 1000; ++i) {
        top->eval();
        const bool aw = top->s_axi_ctrl_awvalid && top->s_axi_ctrl_awready;
        const bool w = top->s_axi_ctrl_wvalid && top->s_axi_ctrl_wready;
        const bool b = top->s_axi_ctrl_bvalid;
        clock_cycle();
        if (aw) top->s_axi_ctrl_awvalid = 0;
        if (w) top->s_axi_ctrl_wvalid = 0;
        if (b) {
            top->s_axi_ctrl_bready = 0;
            top->eval();
            return;
        }
    }
    std::fprintf(stderr, "bare: register %#x: no write response in 1000 cycles\n", address);
    std::exit(1);
}

static void start() { write_register(REG_CONTROL, 3); }

int main(int argc, char** argv) {
    context = std::make_unique<VerilatedContext>();
    context->commandArgs(argc, argv);
    const uint64_t cycles = option("cycles"), base = option("base");
    top = std::make_unique<Vtop>(context.get());
    top->latency = option("latency");
    top->bandwidth = option("bandwidth");
    top->memory_base = base;
    top->aresetn = 0;
    for (int i = 0; i < 8; ++i) clock_cycle();
    top->aresetn = 1;
    clock_cycle();
    write_register(REG_BASE_LO, static_cast<uint32_t>(base));
    write_register(REG_BASE_HI, static_cast<uint32_t>(base >> 32));
    write_register(REG_PROGRAM, option("program"));
    write_register(REG_INPUT, option("input"));
    write_register(REG_STATS, option("stats"));

    uint64_t done = 0;
    const auto begin = std::chrono::steady_clock::now();
    const uint64_t end = clocked + cycles, first = clocked;
    start();
    while (clocked < end) {
        clock_cycle();
        if (top->irq) {
            ++done;
            write_register(REG_STATUS, 6);
            start();
        }
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    std::printf("{\"cycles\": %llu, \"seconds\": %.6f, \"done\": %llu, \"violations\": %u}\n",
                static_cast<unsigned long long>(clocked - first), seconds.count(),
                static_cast<unsigned long long>(done), static_cast<unsigned>(top->violations));
    top->final();
    return 0;
}
