// Sends an image to a model, and draws the answer over the image.

const find = (id) => document.getElementById(id);
const canvas = find("canvas");
const video = find("video");
const SCORE = 0.3;
let asked = 0;
let last = null;

// Colors of classes, far from each other on the color wheel. Boxes, masks and lists use the same
// colors.
const hue = (n) => (n * 137.5) % 360;
const color = (n) => `hsl(${hue(n)} 85% 38%)`;
const percent = (share) => `${(100 * share).toFixed(1)} %`;

function say(text, isError = false) {
  find("message").textContent = text.charAt(0).toUpperCase() + text.slice(1);
  find("message").className = isError ? "error" : "";
}

function headers() {
  const key = find("key").value;
  return key ? { Authorization: `Bearer ${key}` } : {};
}

async function listModels() {
  const response = await fetch("/v1/models", { headers: headers() });
  if (response.status === 401) find("key-row").hidden = false;
  const content = await response.json();
  if (!response.ok) return say(content.error, true);
  find("model").replaceChildren(...content.models.map(({ name }) => new Option(name, name)));
  say(content.models.length ? "" : "No model is loaded.", !content.models.length);
}

async function ask(file) {
  if (!file) return;
  // An answer isn't shown if another request was sent after its request.
  const number = ++asked;
  last = file;
  say("Predicting …");
  find("list").replaceChildren();
  canvas.hidden = true;
  delete canvas.dataset.answered;
  try {
    const began = performance.now();
    const response = await fetch(`/predict/${encodeURIComponent(find("model").value)}`, {
      method: "POST",
      body: file,
      headers: { ...headers(), "Content-Type": "application/octet-stream" },
    });
    const answer = await response.json();
    if (number !== asked) return;
    if (!response.ok) return say(answer.error, true);
    const took = Math.round(performance.now() - began);
    await draw(await createImageBitmap(file), answer);
    say(`${summary(answer)}Answered in ${took} ms.`);
    canvas.dataset.answered = "true";
  } catch (error) {
    if (number === asked) say(`${error.message}`, true);
  }
}

const shown = (answer) => (answer.objects ?? []).filter((one) => one.score >= SCORE);

function summary(answer) {
  if (!answer.objects) return "";
  const count = shown(answer).length;
  const what = `${count || "No"} object${count === 1 ? "" : "s"}`;
  return `${what} with a score of ${percent(SCORE)} or more. `;
}

async function draw(image, answer) {
  // Small images are drawn larger, so that lines and names can be seen.
  const scale = Math.max(1, Math.floor(640 / Math.max(image.width, image.height)));
  canvas.width = image.width * scale;
  canvas.height = image.height * scale;
  canvas.hidden = false;
  const pen = canvas.getContext("2d");
  pen.imageSmoothingEnabled = false;
  pen.scale(scale, scale);
  pen.drawImage(image, 0, 0);
  // Lines and names keep their size on the page, independent of the image's size.
  const unit = image.width / canvas.clientWidth;
  pen.lineWidth = 2.5 * unit;
  pen.font = `${14 * unit}px system-ui, sans-serif`;
  if (answer.mask) await drawMask(pen, answer);
  for (const one of shown(answer)) drawBox(pen, one.box, one.class_id);
  // Draw names last, so that no box hides a name.
  for (const one of shown(answer)) {
    drawName(pen, one.box, one.class_id, `${one.class_name} ${percent(one.score)}`);
  }
  if (answer.box) {
    drawBox(pen, answer.box, answer.class_id ?? 0);
    if (answer.class_name) drawName(pen, answer.box, answer.class_id ?? 0, answer.class_name);
  }
  for (const [n, point] of (answer.keypoints ?? []).entries()) drawPoint(pen, point, n);
  find("list").replaceChildren(...rows(answer).map(listItem));
}

// Each row is a name, a share in 0…1, and a class number if the class has a color in the picture.
function rows(answer) {
  if (answer.top) return answer.top.map((one) => [one.class_name, one.probability, null]);
  if (answer.shares) {
    // Class 0 isn't drawn.
    const id = (name) => answer.class_ids[name] || null;
    return Object.entries(answer.shares).map(([name, share]) => [name, share, id(name)]);
  }
  if (answer.objects) return shown(answer).map((one) => [one.class_name, one.score, one.class_id]);
  if (answer.keypoints) return answer.keypoints.map((one, n) => [one.name, one.score, n]);
  return [];
}

function listItem([name, share, number]) {
  const item = document.createElement("li");
  const mark = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const dot = document.createElementNS("http://www.w3.org/2000/svg", "circle");
  for (const [key, value] of [["cx", "50%"], ["cy", "50%"], ["r", "40%"]]) {
    dot.setAttribute(key, value);
  }
  dot.setAttribute("fill", number === null ? "none" : color(number));
  mark.append(dot);
  const label = document.createElement("span");
  label.textContent = name;
  const bar = document.createElement("progress");
  bar.max = 1;
  bar.value = share;
  const told = document.createElement("output");
  told.textContent = percent(share);
  item.append(mark, label, bar, told);
  return item;
}

function drawBox(pen, box, n) {
  pen.strokeStyle = color(n);
  pen.strokeRect(box.xmin, box.ymin, box.xmax - box.xmin, box.ymax - box.ymin);
}

// White text on the class's color, always inside the image.
function drawName(pen, box, n, text) {
  const size = parseFloat(pen.font);
  const pad = size / 4;
  const { a: scale } = pen.getTransform();
  const width = pen.measureText(text).width + 2 * pad;
  const right = canvas.width / scale - width;
  const x = Math.max(0, Math.min(box.xmin - pen.lineWidth / 2, right));
  const y = Math.max(0, box.ymin - size - 2 * pad);
  pen.fillStyle = color(n);
  pen.fillRect(x, y, width, size + 2 * pad);
  pen.fillStyle = "#fff";
  pen.textBaseline = "middle";
  pen.fillText(text, x + pad, y + pad + size / 2);
}

function drawPoint(pen, point, n) {
  if (point.score < SCORE) return;
  pen.fillStyle = color(n);
  pen.strokeStyle = "#fff";
  pen.beginPath();
  pen.arc(point.x, point.y, 2 * pen.lineWidth, 0, 2 * Math.PI);
  pen.fill();
  pen.stroke();
}

// The mask is a gray PNG whose values are class numbers. Pixels of class 0 stay unchanged.
async function drawMask(pen, answer) {
  const bytes = Uint8Array.from(atob(answer.mask.b64), (one) => one.charCodeAt(0));
  const mask = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  const layer = new OffscreenCanvas(mask.width, mask.height);
  const own = layer.getContext("2d", { willReadFrequently: true });
  own.drawImage(mask, 0, 0);
  const pixels = own.getImageData(0, 0, mask.width, mask.height);
  const palette = Array.from({ length: 256 }, (_, n) => shade(n));
  for (let at = 0; at < pixels.data.length; at += 4) {
    pixels.data.set(palette[pixels.data[at]], at);
  }
  own.putImageData(pixels, 0, 0);
  pen.drawImage(layer, 0, 0);
}

// The color of `color` as a translucent pixel: red, green, blue and alpha.
function shade(n) {
  if (n === 0) return [0, 0, 0, 0];
  const part = (shift) => {
    const k = (shift + hue(n) / 30) % 12;
    return 0.38 - 0.85 * 0.38 * Math.max(-1, Math.min(k - 3, 9 - k, 1));
  };
  return [part(0), part(8), part(4)].map((share) => Math.round(255 * share)).concat(150);
}

async function startCamera() {
  try {
    if (!navigator.mediaDevices) {
      throw new Error("browsers allow cameras only over HTTPS or on localhost");
    }
    const wanted = { video: { facingMode: "environment" } };
    video.srcObject = await navigator.mediaDevices.getUserMedia(wanted);
    await video.play();
    video.hidden = find("shoot").hidden = false;
    canvas.hidden = true;
    find("list").replaceChildren();
    say("");
  } catch (error) {
    say(`No camera: ${error.message}`, true);
  }
}

function shoot() {
  const still = document.createElement("canvas");
  still.width = video.videoWidth;
  still.height = video.videoHeight;
  still.getContext("2d").drawImage(video, 0, 0);
  video.srcObject.getTracks().forEach((track) => track.stop());
  video.srcObject = null;
  video.hidden = find("shoot").hidden = true;
  still.toBlob(ask, "image/jpeg", 0.92);
}

const drop = find("drop");
for (const kind of ["dragenter", "dragover"]) {
  drop.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
drop.addEventListener("dragleave", (event) => {
  if (!drop.contains(event.relatedTarget)) drop.classList.remove("over");
});
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  if (!event.dataTransfer.files.length) say("That is not a file; drop an image file.", true);
  ask(event.dataTransfer.files[0]);
});
find("file").addEventListener("change", (event) => {
  ask(event.target.files[0]);
  // Without this, choosing the same file again would not fire "change".
  event.target.value = "";
});
find("camera").addEventListener("click", startCamera);
find("shoot").addEventListener("click", shoot);
find("key").addEventListener("change", listModels);
find("model").addEventListener("change", () => ask(last));
listModels().catch((error) => say(error.message, true));
