'use strict';
const { domains, Domain } = require('./lib/domains.js');
const { BeamError } = require('./lib/errors.js');
const { native } = require('./lib/native.js');
const { relay, Relay } = require('./lib/relay.js');
const { open, listen, Tunnel } = require('./lib/tunnel.js');

module.exports = { open, listen, relay, domains, version: native.version, features: native.features.split(','), BeamError, Tunnel, Relay, Domain };
