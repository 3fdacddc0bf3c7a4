// Serves stock ONNX Runtime to its parent process over the socket at file descriptor 3.
// A message is: uint32 length of the header (little-endian), the header as JSON, then the bytes of the tensors that
// the header lists, in order. Commands: load {model, threads, optimization}, run {tensors, fetch, warmup, repeats}.
const net = require('net');
const ort = require('onnxruntime-node');

const ARRAYS = {
  float32: Float32Array, float64: Float64Array, float16: Uint16Array, int8: Int8Array, uint8: Uint8Array, bool: Uint8Array,
  int16: Int16Array, uint16: Uint16Array, int32: Int32Array, uint32: Uint32Array, int64: BigInt64Array, uint64: BigUint64Array,
};
const socket = new net.Socket({fd: 3});
let session = null;

function send(header, buffers = []) {
  const json = Buffer.from(JSON.stringify(header));
  const size = Buffer.alloc(4);
  size.writeUInt32LE(json.length);
  for (const part of [size, json, ...buffers]) socket.write(part);
}

function toTensor({name, dtype, shape}, bytes) {
  const Type = ARRAYS[dtype];
  if (!Type) throw new Error(`inputs of type ${dtype} are not passed on`);
  const copy = new Uint8Array(bytes);  // aligned
  const data = new Type(copy.buffer, 0, copy.length / Type.BYTES_PER_ELEMENT);
  const wanted = (session.inputMetadata || []).find((input) => input.name === name)?.type;
  if (wanted === 'uint64' && dtype === 'int64') return new ort.Tensor(wanted, new BigUint64Array(copy.buffer), shape);
  if ((wanted === 'uint16' && dtype === 'int32') || (wanted === 'uint32' && dtype === 'int64')) {
    return new ort.Tensor(wanted, ARRAYS[wanted].from(data, Number), shape);  // widened by the sender
  }
  return new ort.Tensor(dtype, data, shape);
}

async function handle(header, bytes) {
  if (header.command === 'load') {
    const old = session;
    session = null;
    if (old) await old.release();
    session = await ort.InferenceSession.create(header.model, {
      intraOpNumThreads: header.threads, interOpNumThreads: 1, executionMode: 'sequential',
      graphOptimizationLevel: header.optimization, logSeverityLevel: 3,
    });
    return send({inputs: session.inputNames, outputs: session.outputNames});
  }
  if (!session) throw new Error('no model is loaded');
  const feeds = {};
  let offset = 0;
  for (const tensor of header.tensors) {
    feeds[tensor.name] = toTensor(tensor, bytes.subarray(offset, offset + tensor.bytes));
    offset += tensor.bytes;
  }
  const fetch = header.fetch.length > 0 ? header.fetch : session.outputNames;
  for (let i = 0; i < header.warmup; ++i) await session.run(feeds, fetch);
  const seconds = [];
  let results = null;
  for (let i = 0; i < header.repeats; ++i) {
    const start = process.hrtime.bigint();
    results = await session.run(feeds, fetch);
    seconds.push(Number(process.hrtime.bigint() - start) * 1e-9);
  }
  const tensors = [], buffers = [];
  for (const name of fetch) {
    const {type, dims, data} = results[name];
    if (!ARRAYS[type]) throw new Error(`the output '${name}' of type ${type} is not passed on`);
    const view = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    tensors.push({name, dtype: type, shape: Array.from(dims), bytes: view.length});
    buffers.push(view);
  }
  send({tensors, seconds}, buffers);
}

let pending = [], available = 0, wanted = 4, header = null, working = Promise.resolve();
function take(count) {
  let all = Buffer.concat(pending);
  const out = all.subarray(0, count);
  pending = [all.subarray(count)];
  available -= count;
  return out;
}
socket.on('data', (chunk) => {
  pending.push(chunk);
  available += chunk.length;
  while (available >= wanted) {
    if (wanted === 4 && header === null) {
      header = take(4).readUInt32LE();
      wanted = header;
    } else if (typeof header === 'number') {
      header = JSON.parse(take(header).toString());
      wanted = (header.tensors || []).reduce((sum, tensor) => sum + tensor.bytes, 0);
    } else {
      const message = header, bytes = take(wanted);
      working = working.then(() => handle(message, bytes)).catch((error) => send({error: String(error.message || error)}));
      header = null;
      wanted = 4;
    }
  }
});
socket.on('end', () => process.exit(0));
socket.on('error', () => process.exit(0));
