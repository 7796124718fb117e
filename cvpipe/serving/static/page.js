// Asks a model about one image, and draws the answer over it.

const find = (id) => document.getElementById(id);
const canvas = find("canvas");
const video = find("video");
const SCORE = 0.3;

// Colors of classes, far from each other on the color wheel.
const color = (n, alpha = 1) => `hsl(${(n * 137.5) % 360} 90% 45% / ${alpha})`;
const percent = (share) => `${(100 * share).toFixed(1)} %`;

function say(text, isError = false) {
  find("message").textContent = text;
  find("message").className = isError ? "error" : "";
}

function headers() {
  const key = find("key").value;
  return key ? { Authorization: `Bearer ${key}` } : {};
}

async function listModels() {
  const response = await fetch("/v1/models", { headers: headers() });
  find("key-row").hidden = response.status !== 401 && !find("key").value;
  const content = await response.json();
  if (!response.ok) return say(content.error, true);
  find("model").replaceChildren(...content.models.map(({ name }) => new Option(name, name)));
  say("");
}

async function ask(file) {
  if (!file) return;
  say("asking …");
  find("list").replaceChildren();
  canvas.hidden = true;
  try {
    const began = performance.now();
    const response = await fetch(`/predict/${encodeURIComponent(find("model").value)}`, {
      method: "POST",
      body: file,
      headers: { ...headers(), "Content-Type": "application/octet-stream" },
    });
    const answer = await response.json();
    if (!response.ok) return say(answer.error, true);
    const took = Math.round(performance.now() - began);
    await draw(await createImageBitmap(file), answer);
    say(`answered in ${took} ms`);
    canvas.dataset.answered = "true";
  } catch (error) {
    say(`${error.message}`, true);
  }
}

async function draw(image, answer) {
  canvas.width = image.width;
  canvas.height = image.height;
  canvas.hidden = false;
  const pen = canvas.getContext("2d");
  pen.drawImage(image, 0, 0);
  pen.lineWidth = Math.max(2, image.width / 300);
  pen.font = `${Math.max(12, image.width / 40)}px sans-serif`;
  if (answer.mask) await drawMask(pen, answer);
  for (const one of answer.objects ?? []) {
    const label = `${one.class_name} ${percent(one.score)}`;
    if (one.score >= SCORE) drawBox(pen, one.box, one.class_id, label);
  }
  if (answer.box) drawBox(pen, answer.box, answer.class_id ?? 0, answer.class_name ?? "");
  for (const [n, point] of (answer.keypoints ?? []).entries()) drawPoint(pen, point, n);
  find("list").replaceChildren(...lines(answer).map((text) => {
    const line = document.createElement("li");
    line.textContent = text;
    return line;
  }));
}

function lines(answer) {
  const line = (name, share) => `${name}: ${percent(share)}`;
  if (answer.top) return answer.top.map((one) => line(one.class_name, one.probability));
  if (answer.shares) return Object.entries(answer.shares).map(([name, share]) => line(name, share));
  if (answer.objects) {
    const found = answer.objects.filter((one) => one.score >= SCORE);
    return found.map((one) => line(one.class_name, one.score));
  }
  if (answer.keypoints) return answer.keypoints.map((one) => line(one.name, one.score));
  return [];
}

function drawBox(pen, box, n, text) {
  pen.strokeStyle = pen.fillStyle = color(n);
  pen.strokeRect(box.xmin, box.ymin, box.xmax - box.xmin, box.ymax - box.ymin);
  pen.fillText(text, box.xmin, Math.max(box.ymin - pen.lineWidth, parseInt(pen.font)));
}

function drawPoint(pen, point, n) {
  if (point.score < SCORE) return;
  pen.fillStyle = color(n);
  pen.beginPath();
  pen.arc(point.x, point.y, 2 * pen.lineWidth, 0, 2 * Math.PI);
  pen.fill();
}

// The mask is a gray PNG whose values are class numbers; 0 is left as it is.
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

function shade(n) {
  if (n === 0) return [0, 0, 0, 0];
  const turn = 2 * Math.PI;
  const part = (offset) => Math.round(255 * (0.5 + 0.5 * Math.cos(turn * (n * 0.381966 + offset))));
  return [part(0), part(1 / 3), part(2 / 3), 140];
}

async function startCamera() {
  try {
    const wanted = { video: { facingMode: "environment" } };
    video.srcObject = await navigator.mediaDevices.getUserMedia(wanted);
    await video.play();
    video.hidden = find("shoot").hidden = false;
  } catch (error) {
    say(`no camera: ${error.message}`, true);
  }
}

function shoot() {
  const still = document.createElement("canvas");
  still.width = video.videoWidth;
  still.height = video.videoHeight;
  still.getContext("2d").drawImage(video, 0, 0);
  video.srcObject.getTracks().forEach((track) => track.stop());
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
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  ask(event.dataTransfer.files[0]);
});
find("file").addEventListener("change", (event) => ask(event.target.files[0]));
find("camera").addEventListener("click", startCamera);
find("shoot").addEventListener("click", shoot);
find("key").addEventListener("change", listModels);
listModels().catch((error) => say(error.message, true));
