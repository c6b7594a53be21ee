// Every text that can be seen on the page, with its contrast to what is behind it as WCAG has it, and the least it may have.
() => {
  const pixel = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    pixel.clearRect(0, 0, 1, 1);
    pixel.fillStyle = colour;
    pixel.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = pixel.getImageData(0, 0, 1, 1).data;
    return [red, green, blue, alpha / 255];
  };
  const over = ([...top], below, opacity) => {
    const alpha = top[3] * opacity;
    return below.map((part, place) => (place === 3 ? 1 : top[place] * alpha + part * (1 - alpha)));
  };
  const light = (colour) => {
    const [red, green, blue] = colour.map((part) => part / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);

  /** What is behind an element's text, and how opaque the element is, from the outermost element inwards. */
  const behind = (element) => {
    const chain = [];
    for (let one = element; one; one = one.parentElement) chain.unshift(getComputedStyle(one));
    return chain.reduce(([ground, opacity], style) => {
      const now = opacity * Number(style.opacity);
      return [over(rgba(style.backgroundColor), ground, now), now];
    }, [[255, 255, 255, 1], 1]);
  };
  const found = [];
  const measure = (element, text, style) => {
    const [ground, opacity] = behind(element);
    const size = parseFloat(style.fontSize);
    const least = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
    const contrast = ratio(over(rgba(style.color), ground, opacity), ground);
    found.push({ text: text.trim().slice(0, 40), what: element.className || element.tagName, contrast, least });
  };
  for (const element of document.querySelectorAll("body *")) {
    if (!element.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
    if (element.closest(":disabled, script, noscript")) continue; // WCAG asks nothing of what cannot be used
    const style = getComputedStyle(element);
    const said = [...element.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE);
    const text = said.map((node) => node.data).join("");
    if (text.trim()) measure(element, text, style);
    if (element.matches("input, textarea") && element.value) measure(element, element.value, style);
    else if (element.placeholder) measure(element, element.placeholder, getComputedStyle(element, "::placeholder"));
    for (const part of ["::before", "::after"]) {
      const made = getComputedStyle(element, part);
      if (/^".+"$/.test(made.content)) measure(element, made.content, made);
    }
  }
  return found;
}
