# Beam: `make help` says what there is. Sources are found by themselves: put a file into its folder and it is built.
.DEFAULT_GOAL := all
SHELL := /bin/bash
, := ,

BUILD   ?= build
# One spelling of it, or the dependencies remembered under the other are lost.
override BUILD := $(patsubst $(CURDIR)/%,%,$(BUILD))
PREFIX  ?= /usr/local
DEPS    := $(abspath $(or $(BEAM_DEPS),build/deps))
VERSION := $(shell sed -n 's/^.define BEAM_VERSION "\(.*\)"/\1/p' include/beam/beam.h 2>/dev/null)
VERSION := $(or $(VERSION),0.1.0)
ABI     := 0

# ---- switches: SAN=address,undefined|thread|fuzzer  CORE=1  QUIC=0 GNUTLS=0 SQLITE=0 JSON=0 YAML=0 BROTLI=0 ZLIB=0  CC=clang -------
SAN  ?=
CORE ?= 0
ifeq ($(CORE),1)
GNUTLS ?= 0
QUIC   ?= 0
SQLITE ?= 0
JSON   ?= 0
YAML   ?= 0
BROTLI ?= 0
ZLIB   ?= 0
endif
GNUTLS ?= 1
SQLITE ?= 1
JSON   ?= 1
YAML   ?= 1
BROTLI ?= 1
ZLIB   ?= 1
ifeq ($(SAN),fuzzer)
CC := clang
endif

# mbedTLS's flags come from the set-up; including them makes a fresh machine run it by itself.
NO_SETUP := help clean distclean format layers setup
ifneq ($(filter-out $(NO_SETUP),$(or $(MAKECMDGOALS),all)),)
include $(DEPS)/setup.mk
$(DEPS)/setup.mk: .ci/setup
	@BEAM_DEPS=$(DEPS) .ci/setup build
endif

# QUIC needs GnuTLS, and an ngtcp2 that the set-up found or installed.
QUIC ?= $(if $(filter 0,$(GNUTLS)),0,$(or $(HAVE_NGTCP2),1))

# A feature left out takes its files (x_gnutls.c, ...), its library and its -D with it.
MODULES := libevent_core libevent_extra libevent_pthreads libnghttp2 libsodium
OMIT    :=
DEFINES := -D_GNU_SOURCE $(if $(filter fuzzer,$(SAN)),-DFUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION)
feature = $(if $(filter 0,$($(1))),$(eval OMIT += %_$(2).c)$(eval DEFINES += -DBEAM_NO_$(1)),$(eval MODULES += $(3)))
$(call feature,GNUTLS,gnutls,gnutls)
$(call feature,QUIC,quic,libngtcp2 libngtcp2_crypto_gnutls libnghttp3)
$(call feature,SQLITE,sqlite,sqlite3)
$(call feature,JSON,json,jansson)
$(call feature,YAML,yaml,yaml-0.1)
$(call feature,BROTLI,brotli,libbrotlienc)
$(call feature,ZLIB,zlib,zlib)
ifeq ($(QUIC),0)
OMIT += lib/quic/% lib/link/quic% lib/http/h3% test/unit/quic/% test/unit/link/test_quic% test/unit/http/test_h3% test/fuzz/fuzz_quic%
endif

# ---- flags ----------------------------------------------------------------------------------------------------------
ifneq ($(filter-out $(NO_SETUP),$(or $(MAKECMDGOALS),all)),)
PKG_CFLAGS := $(shell pkg-config --cflags $(MODULES) 2>/dev/null)
PKG_LIBS   := $(shell pkg-config --libs $(MODULES) 2>/dev/null)
endif
OPT      ?= -O2
WARN     := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2
ifneq ($(SAN),)
ifeq ($(findstring clang,$(CC)),)
WARN += -Wno-format-truncation -Wno-maybe-uninitialized -Wno-stringop-overflow # gcc guesses these wrong in instrumented code
endif
endif
HARDEN   := -fstack-protector-strong $(if $(SAN),,-D_FORTIFY_SOURCE=2)
SAN_C    := $(if $(SAN),-fsanitize=$(if $(filter fuzzer,$(SAN)),fuzzer-no-link$(,)address$(,)undefined,$(SAN)) -fno-omit-frame-pointer -fno-sanitize-recover=undefined)
SAN_LINK := $(if $(SAN),-fsanitize=$(if $(filter fuzzer,$(SAN)),address$(,)undefined,$(SAN)))
CFLAGS   ?=
ALL_C     = -std=gnu17 $(OPT) -g -pthread $(WARN) $(HARDEN) $(SAN_C) $(DEFINES) -MMD -MP -MT $@ -MF $@.d
LIB_C     = $(ALL_C) -fPIC -fvisibility=hidden -Iinclude -Ilib -I$(BUILD)/gen $(MBEDTLS_CFLAGS) $(PKG_CFLAGS) $(CFLAGS)
FRONT_C   = $(ALL_C) -fPIC -Iinclude $(CFLAGS)
LINK      = $(SAN_LINK) -pthread -Wl,-z,relro,-z,now,--as-needed $(LDFLAGS)
LIBS      = $(MBEDTLS_LIBS) $(PKG_LIBS)

# ---- what there is to build -----------------------------------------------------------------------------------------
# FOLDERS='base io' builds just these folders of lib/: enough for the tests of a low rank.
FOLDERS  ?=
LIB_SRC  := $(filter-out $(OMIT),$(shell find $(if $(FOLDERS),$(FOLDERS:%=lib/%),lib) -name '*.c' 2>/dev/null | LC_ALL=C sort))
CLI_SRC  := $(sort $(wildcard cli/*.c))
PROTO    := $(wildcard lib/link/beam.proto)
GEN      := $(if $(PROTO),$(BUILD)/gen/wire/beam.pb)
LIB_OBJ  := $(LIB_SRC:%.c=$(BUILD)/obj/%.o) $(GEN:$(BUILD)/gen/%=$(BUILD)/obj/gen/%.o)
CLI_OBJ  := $(CLI_SRC:%.c=$(BUILD)/obj/%.o)
EXAMPLES := $(patsubst examples/%.c,$(BUILD)/examples/%,$(wildcard examples/*.c))
SITE     := $(if $(wildcard examples/site/serve.c),$(BUILD)/site)
UNIT_SRC := $(sort $(filter-out $(OMIT) $(patsubst %,test/unit/%,$(OMIT)),$(wildcard test/unit/*/test_*.c)))
SIM_SRC  := $(sort $(wildcard test/sim/test_*.c))
UNIT     := $(UNIT_SRC:%.c=$(BUILD)/%)
SIM      := $(SIM_SRC:%.c=$(BUILD)/%)
FUZZ     := $(patsubst test/fuzz/%.c,$(BUILD)/test/fuzz/%,$(filter-out $(OMIT),$(sort $(wildcard test/fuzz/fuzz_*.c))))
# quic: lies under the encryption, which only a library made for it allows.
SHORT    := $(filter-out %/quic,$(patsubst $(BUILD)/test/fuzz/fuzz_%,$(BUILD)/test/short/%,$(FUZZ)))
BOX      := $(patsubst %.c,$(BUILD)/%,$(wildcard test/net/delaybox.c))
LOAD     := $(if $(filter 0,$(GNUTLS)),,$(patsubst %.c,$(BUILD)/%,$(wildcard test/load/*.c)))
HERD     := $(patsubst %.c,$(BUILD)/%,$(wildcard test/bench/herd.c) $(if $(filter 0,$(QUIC)),,$(wildcard test/bench/quic_talk.c)))
SO       := $(BUILD)/libbeam.so.$(VERSION)

.PHONY: all lib run setup test test-long unit sim tests bench lint format layers asan tsan fuzz install uninstall clean distclean help
all: lib $(if $(CLI_SRC),$(BUILD)/beam) $(EXAMPLES) $(SITE) ## libbeam.so, libbeam.a, beam and the examples
lib: $(BUILD)/libbeam.so $(BUILD)/libbeam.a
tests: $(UNIT) $(SIM) $(SHORT) $(BOX) $(LOAD) $(HERD) ## only build the unit and simulation tests

# ---- the library ----------------------------------------------------------------------------------------------------
# Other flags or another set of files than last time: build again what depends on them.
remember = @mkdir -p $(@D); echo '$(1)' | cmp -s - $@ || echo '$(1)' > $@
$(BUILD)/.flags: FORCE
	$(call remember,$(CC) $(OPT) $(SAN) $(DEFINES) $(CFLAGS) $(LDFLAGS))
$(BUILD)/.files: FORCE
	$(call remember,$(LIB_OBJ))
.PHONY: FORCE
FORCE:

$(LIB_OBJ) $(CLI_OBJ): $(BUILD)/.flags
$(LIB_OBJ): | $(if $(GEN),$(GEN).h)
$(BUILD)/obj/lib/%.o: lib/%.c
	@mkdir -p $(@D)
	$(CC) $(LIB_C) -c -o $@ $<

$(BUILD)/obj/gen/%.o: $(BUILD)/gen/%.c
	@mkdir -p $(@D)
	$(CC) $(LIB_C) -c -o $@ $<

$(BUILD)/gen/wire/%.pb.c $(BUILD)/gen/wire/%.pb.h &: lib/link/%.proto $(wildcard lib/link/*.options)
	@mkdir -p $(@D)
	nanopb_generator.py -q -I lib/link $(if $(wildcard lib/link/$*.options),-f lib/link/$*.options) -D $(@D) $*.proto

# The archive carries mbedTLS where the set-up built it, and nanopb's few functions, so that one file is enough to link.
NANOPB_A := $(shell $(CC) -print-file-name=libprotobuf-nanopb.a)
$(BUILD)/libbeam.a: $(LIB_OBJ) $(MBEDTLS_ARCHIVES) $(BUILD)/.files
	@rm -f $@ $@.part
	@printf '%s\n' 'create $@.part' $(LIB_OBJ:%='addmod %') $(MBEDTLS_ARCHIVES:%='addlib %') 'addlib $(NANOPB_A)' save end | ar -M
	@ranlib $@.part && mv $@.part $@

$(SO): $(LIB_OBJ) $(MBEDTLS_ARCHIVES) lib/beam.map $(BUILD)/.files
	$(CC) -shared -o $@ -Wl,-soname,libbeam.so.$(ABI) -Wl,--version-script=lib/beam.map $(if $(SAN),,-Wl$(,)-z$(,)defs) $(LINK) \
	  $(LIB_OBJ) $(MBEDTLS_ARCHIVES) $(NANOPB_A) $(LIBS)

$(BUILD)/libbeam.so: $(SO)
	@ln -sf $(notdir $(SO)) $(BUILD)/libbeam.so.$(ABI) && ln -sf libbeam.so.$(ABI) $@

# ---- the programs: they see <beam/...> and the shared library, nothing else ------------------------------------------
FRONT_LINK = $(LINK) -L$(BUILD) -lbeam -Wl,-rpath,'$$ORIGIN:$$ORIGIN/../lib:$$ORIGIN/..'
$(BUILD)/obj/cli/%.o: cli/%.c
	@mkdir -p $(@D)
	$(CC) $(FRONT_C) -c -o $@ $<

$(BUILD)/beam: $(CLI_OBJ) $(BUILD)/libbeam.so
	$(CC) -o $@ $(CLI_OBJ) $(FRONT_LINK) $(if $(filter 0,$(YAML)),,-lyaml)

$(BUILD)/examples/%: examples/%.c $(BUILD)/libbeam.so
	@mkdir -p $(@D)
	$(CC) $(FRONT_C) -o $@ $< $(FRONT_LINK)

$(BUILD)/site: examples/site/serve.c
	@mkdir -p $(@D)
	$(CC) $(FRONT_C) -o $@ $< $(LINK)

# ---- the Node addon: the whole library inside, but for other people's shared libraries; those go beside it, under names of our own ------------
# tools/package.mjs says why. Node's headers are beside a node from elsewhere, and otherwise in an npm package of the tests.
NODE        ?= node
NODE_HEADER  = $(firstword $(wildcard $(abspath $(dir $(realpath $(shell command -v $(NODE))))/../include/node)/node_api.h \
                 /usr/include/node/node_api.h /usr/include/nodejs/src/node_api.h test/e2e/node_modules/node-api-headers/include/node_api.h))
NODE_SRC    := $(sort $(wildcard bindings/node/src/*.c))
NODE_OBJ    := $(NODE_SRC:%.c=$(BUILD)/obj/%.o)
NODE_JS     := $(shell find bindings/node -type f -not -path 'bindings/node/src/*' -not -path 'bindings/node/test/*' 2>/dev/null)
$(NODE_OBJ): $(BUILD)/.flags
$(BUILD)/obj/bindings/node/%.o: bindings/node/%.c
	@mkdir -p $(@D)
	@[ -n "$(NODE_HEADER)" ] || { echo "node_api.h is missing: npm ci in test/e2e brings it, or a package such as libnode-dev" >&2; exit 1; }
	$(CC) $(FRONT_C) -fvisibility=hidden -Icli -isystem $(dir $(NODE_HEADER)) -c -o $@ $<

# One object in which only beam_* is seen: the library and the command each have names of their own for their insides, and some are the same.
$(BUILD)/node/libbeam.o: $(BUILD)/libbeam.a
	@mkdir -p $(@D)
	$(LD) -r -o $@ --whole-archive $< && objcopy --localize-hidden $@

# An RPATH, not a RUNPATH: it also counts for what the libraries beside the addon need. Never unloaded: libraries below it cannot be.
$(BUILD)/node/beam.node: $(NODE_OBJ) $(filter-out %/cli/main.o,$(CLI_OBJ)) $(BUILD)/node/libbeam.o bindings/node/src/addon.map
	@mkdir -p $(@D)
	$(CC) -shared -o $@ $(LINK) -Wl,--version-script=bindings/node/src/addon.map,-z,nodelete,--disable-new-dtags,-rpath,'$$ORIGIN' \
	  $(NODE_OBJ) $(filter-out %/cli/main.o,$(CLI_OBJ)) $(BUILD)/node/libbeam.o $(LIBS) $(if $(filter 0,$(YAML)),,-lyaml) -lm

$(BUILD)/node/.packaged: $(BUILD)/node/beam.node $(NODE_JS)
	$(NODE) bindings/node/tools/package.mjs $(BUILD)/node
	@touch $@

node: $(BUILD)/node/.packaged ## the npm packages, in build/node/node_modules
.PHONY: node

# ---- test programs: one per file, linked with the archive, so hidden symbols can be tested --------------------------
# Files of the same folder that do not begin with test_ are helpers, linked into each program of that folder.
helpers = $(filter-out $(dir $(1))test_%.c,$(wildcard $(dir $(1))*.c))
.SECONDEXPANSION:
$(UNIT) $(SIM): $(BUILD)/test/%: test/%.c $$(call helpers,test/%.c) $(BUILD)/libbeam.a
	@mkdir -p $(@D)
	$(CC) $(filter-out -fvisibility=hidden,$(LIB_C)) -I$(<D) -o $@ $(call helpers,$<) $< $(BUILD)/libbeam.a $(LINK) -lcmocka $(LIBS)

# make build/test/bench/link_bench: one part of the library by itself, for whoever makes it faster.
$(BUILD)/test/bench/%: test/bench/%.c $(BUILD)/libbeam.a
	@mkdir -p $(@D)
	$(CC) $(LIB_C) -o $@ $< $(BUILD)/libbeam.a $(LINK) $(LIBS)

# A wire between two network namespaces: needs nothing of the library.
$(BUILD)/test/net/%: test/net/%.c $(BUILD)/.flags
	@mkdir -p $(@D)
	$(CC) $(FRONT_C) -o $@ $< $(LINK)

# Users of the library as any other program is: the public headers, the shared library, and a visitor of GnuTLS.
$(BUILD)/test/load/%: test/load/%.c $(BUILD)/libbeam.so
	@mkdir -p $(@D)
	$(CC) $(FRONT_C) -o $@ $< $(FRONT_LINK):'$$ORIGIN/../..' -lgnutls

$(BUILD)/test/fuzz/%: test/fuzz/%.c $(BUILD)/libbeam.a
	@mkdir -p $(@D)
	$(CC) $(filter-out -Wmissing-prototypes,$(LIB_C)) -o $@ $< $(BUILD)/libbeam.a -fsanitize=fuzzer $(LINK) $(LIBS)

# The fuzz targets for every run of the tests: without libFuzzer, so that any compiler makes them.
$(BUILD)/test/short/%: test/fuzz/fuzz_%.c test/fuzz/short.c $(BUILD)/libbeam.a
	@mkdir -p $(@D)
	$(CC) $(filter-out -Wmissing-prototypes,$(LIB_C)) -o $@ $< test/fuzz/short.c $(BUILD)/libbeam.a $(LINK) $(LIBS)

# ---- what people run ------------------------------------------------------------------------------------------------
RUNNER = BEAM_BUILD=$(abspath $(BUILD)) .ci/tests
setup: ## install what building and testing need
	@.ci/setup build test

run: ## install what is missing, build, and put port 3000 on an HTTPS name
	@.ci/setup build
	@+$(MAKE) -s -j2 all
	@exec .ci/run-local $(abspath $(BUILD))

test: ## install what is missing, build, and run every test
	@.ci/setup build test
	@.ci/tests npm
	@+$(MAKE) -s -j2 all tests node
	@$(RUNNER) unit sim fuzz e2e node

test-long: ## the same with the slow tests, and the browser's
	@.ci/setup build test browser
	@.ci/tests npm
	@+$(MAKE) -s -j2 all tests node
	@BEAM_TEST_LONG=1 $(RUNNER) unit sim fuzz e2e browser node

browser: ## Chromium, and stock dev servers (Vite, Next.js, webpack, Django) through the tunnel
	@.ci/setup build test browser
	@+$(MAKE) -s -j2 all
	@$(RUNNER) browser
.PHONY: browser

unit: $(UNIT) ## only the unit tests
	@$(RUNNER) unit
sim: $(SIM) ## only the simulated network
	@$(RUNNER) sim

asan: ## every test under AddressSanitizer and UBSan
	@.ci/setup build test
	@.ci/tests npm
	@+$(MAKE) -s -j2 BUILD=$(BUILD)/asan SAN=address,undefined OPT=-O1 all tests node
	@BEAM_SAN=address BEAM_BUILD=$(abspath $(BUILD)/asan) .ci/tests unit sim fuzz e2e node

tsan: ## what has threads, under ThreadSanitizer
	@.ci/setup build test
	@+$(MAKE) -s -j2 BUILD=$(BUILD)/tsan SAN=thread OPT=-O1 all tests
	@BEAM_SAN=thread BEAM_BUILD=$(abspath $(BUILD)/tsan) .ci/tests unit sim e2e

fuzz: ## a short run of each fuzz target (FUZZ_TIME seconds)
	@.ci/setup build lint
	@+$(MAKE) -s -j2 BUILD=$(BUILD)/fuzz SAN=fuzzer OPT=-O1 fuzz-programs
	@.ci/fuzz $(abspath $(BUILD)/fuzz) $(or $(FUZZ_TIME),20)
.PHONY: fuzz-programs
fuzz-programs: $(FUZZ)

bench: ## measure Beam against nginx and nghttpx, side by side
	@.ci/setup build bench
	@+$(MAKE) -s -j2 all $(if $(filter 0,$(QUIC)),,$(BUILD)/test/bench/quic_bench)
	@BEAM_BUILD=$(abspath $(BUILD)) test/bench/run
	@BEAM_BUILD=$(abspath $(BUILD)) test/bench/quic

net-table: ## MB/s and p99 over a slow and lossy wire (root; NET_FLAGS='--rtt 100 --loss 0')
	@.ci/setup build bench
	@+$(MAKE) -s -j2 all $(BOX)
	@BEAM_BUILD=$(abspath $(BUILD)) test/net/table $(NET_FLAGS)
.PHONY: net-table

opens: ## 10,000 cold opens: plain, lossy, without UDP, through a proxy (OPENS=10000)
	@.ci/setup build test
	@+$(MAKE) -s -j2 all $(BOX) $(LOAD)
	@BEAM_OPENS=$(or $(OPENS),10000) BEAM_BUILD=$(abspath $(BUILD)) node --test test/e2e/opens.test.mjs
soak: ## visitors of two relays that are drained and killed in turns (SOAK_SECONDS=3600)
	@.ci/setup build test
	@+$(MAKE) -s -j2 all
	@BEAM_BUILD=$(abspath $(BUILD)) test/load/soak --seconds $(or $(SOAK_SECONDS),3600) $(SOAK_FLAGS)
.PHONY: opens soak

# ---- care -----------------------------------------------------------------------------------------------------------
C_FILES = $(shell find include lib cli examples bindings test -name '*.[ch]' -not -path '*/node_modules/*' 2>/dev/null | LC_ALL=C sort)
lint: ## clang-format (check), clang-tidy, cppcheck, layers
	@.ci/setup build test lint
	$(if $(GEN),@+$(MAKE) -s $(GEN).h)
	@.ci/tests npm
	@BEAM_BUILD=$(BUILD) LINT_FLAGS='$(filter-out -M% lint lint.d -Werror -fstack-protector-strong,$(LIB_C)) -Icli -isystem $(dir $(NODE_HEADER))' .ci/lint

format: ## rewrite the sources as .clang-format says
	clang-format -i $(C_FILES)

layers: ## who includes whom, against lib/LAYERS
	@.ci/layers

install: all ## PREFIX=/usr/local DESTDIR=
	install -d $(addprefix $(DESTDIR)$(PREFIX)/,bin lib/pkgconfig include/beam share/man/man1)
	install -m 644 include/beam/*.h $(DESTDIR)$(PREFIX)/include/beam/
	install -m 755 $(SO) $(DESTDIR)$(PREFIX)/lib/
	ln -sf libbeam.so.$(VERSION) $(DESTDIR)$(PREFIX)/lib/libbeam.so.$(ABI)
	ln -sf libbeam.so.$(ABI) $(DESTDIR)$(PREFIX)/lib/libbeam.so
	install -m 644 $(BUILD)/libbeam.a $(DESTDIR)$(PREFIX)/lib/
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' -e 's|@LIBS_PRIVATE@|$(strip $(LIBS)) -pthread|' lib/beam.pc.in \
	  > $(DESTDIR)$(PREFIX)/lib/pkgconfig/beam.pc
	$(if $(CLI_SRC),install -m 755 $(BUILD)/beam $(DESTDIR)$(PREFIX)/bin/)
	$(if $(wildcard cli/beam.1),install -m 644 cli/beam.1 $(DESTDIR)$(PREFIX)/share/man/man1/)

uninstall: ## undo install
	rm -rf $(DESTDIR)$(PREFIX)/include/beam
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/,bin/beam lib/libbeam.a lib/libbeam.so lib/libbeam.so.$(ABI) lib/libbeam.so.$(VERSION) \
	  lib/pkgconfig/beam.pc share/man/man1/beam.1)

clean: ## remove what was built, keep the dependencies
	find $(BUILD) -mindepth 1 -maxdepth 1 ! -path '$(BUILD)/deps' -exec rm -rf {} + 2>/dev/null || true

distclean: ## remove everything that was built
	rm -rf $(BUILD) test/e2e/node_modules

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

-include $(shell find $(BUILD) -path $(BUILD)/deps -prune -o -name '*.d' -print 2>/dev/null)
